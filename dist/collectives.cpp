#include "dist/collectives.h"

#include <algorithm>
#include <cstring>

#include "dist/host.h"

namespace onpa::dist::detail {
namespace {

using Kind = Collective::Kind;

// Elements that an all_reduce or a reduce_scatter works on at once, over all ranks; the scratch
// memory holds as many.
constexpr std::int64_t kSegment = std::int64_t{1} << 22;

// Bytes of each rank that an all_gather sends at once.
constexpr std::int64_t kBlockBytes = std::int64_t{1} << 22;

// Bytes that a shift sends at once; a count is an int.
constexpr std::int64_t kShiftBytes = std::int64_t{1} << 26;

// What every rank tells every other first: which collective it calls and, where it is small, the
// data itself, so that a sum of a few numbers is one message.
struct Notice {
  static constexpr std::size_t kPayload = 208;
  std::uint64_t call;
  std::int64_t numel;
  std::int32_t kind, op, root, dtype;
  std::byte payload[kPayload];
};
static_assert(sizeof(Notice) == 240);

Notice notice_of(const Collective& c, std::uint64_t call) {
  Notice notice{};
  notice.call = call;
  notice.kind = static_cast<std::int32_t>(c.kind);
  notice.op = static_cast<std::int32_t>(c.op);
  notice.root = c.root;
  if (!c.in.defined()) return notice;
  notice.numel = c.in.numel();
  notice.dtype = static_cast<std::int32_t>(c.in.dtype());
  return notice;
}

// A notice as text: Collective::name() needs no values, but a tensor to tell size and type.
std::string text_of(const Notice& n) {
  Collective c{static_cast<Kind>(n.kind), {}, {}, static_cast<ReduceOp>(n.op), n.root};
  std::string text = "call " + std::to_string(n.call) + ", " + c.name();
  if (c.kind != Kind::kBarrier) {
    text += " of " + std::to_string(n.numel) + " " + name_of(static_cast<DType>(n.dtype));
  }
  return text;
}

bool same_call(const Notice& a, const Notice& b) {
  return a.call == b.call && a.numel == b.numel && a.kind == b.kind && a.op == b.op &&
         a.root == b.root && a.dtype == b.dtype;
}

// Elements [begin, begin + count) of `length` that rank `rank` of `size` works on.
struct Share {
  std::int64_t begin, count;
};
Share share_of(std::int64_t length, int rank, int size) {
  const std::int64_t chunk = (length + size - 1) / size;
  const std::int64_t begin = std::min(length, rank * chunk);
  return {begin, std::min(length - begin, chunk)};
}

}  // namespace

// Whether the data went along, and the result is there.
bool Collectives::agree(const Collective& c) {
  const int rank = transport_.rank(), size = transport_.size();
  Notice mine = notice_of(c, calls_++);
  const bool along = c.kind == Kind::kAllReduce && c.in.byte_count() <= Notice::kPayload;
  if (along) std::memcpy(mine.payload, c.in.bytes(), c.in.byte_count());
  std::vector<Notice> all(static_cast<std::size_t>(size));
  transport_.gather_small(&mine, all.data(), sizeof(Notice));
  for (int other = 0; other < size; ++other) {
    const Notice& notice = all[static_cast<std::size_t>(other)];
    ONPA_CHECK(same_call(notice, all[0]), "rank 0 calls ", text_of(all[0]), "; rank ", other, " ",
               text_of(notice), " (seen on rank ", rank, ")");
  }
  if (!along) return false;
  std::vector<const std::byte*> parts;
  for (const Notice& notice : all) parts.push_back(notice.payload);
  reduce_in_order(c.in.dtype(), c.op, parts, c.out.bytes(), c.out.numel());
  return true;
}

void Collectives::carry_out(const Collective& c) {
  if (agree(c)) return;
  switch (c.kind) {
    case Kind::kBarrier:
      return;
    case Kind::kBroadcast:
      return transport_.broadcast(c.out.bytes(), static_cast<std::int64_t>(c.out.byte_count()),
                                  c.root);
    case Kind::kAllReduce:
      return all_reduce(c);
    case Kind::kReduceScatter:
      return reduce_scatter(c);
    case Kind::kAllGather:
      return all_gather(c);
    case Kind::kShift:
      return shift(c);
  }
}

// Each rank gets everybody's values of its share, reduces them and gives the result to all.
void Collectives::all_reduce(const Collective& c) {
  const int rank = transport_.rank(), size = transport_.size();
  const auto width = static_cast<std::int64_t>(size_of(c.in.dtype()));
  for (std::int64_t begin = 0; begin < c.in.numel(); begin += kSegment) {
    const std::int64_t length = std::min(kSegment, c.in.numel() - begin);
    std::byte* segment = c.in.bytes() + begin * width;
    const Share mine = share_of(length, rank, size);
    scratch_.resize(static_cast<std::size_t>(mine.count * width * size));
    const auto place = [&](int r) { return segment + share_of(length, r, size).begin * width; };
    const auto bytes = [&](int r) { return share_of(length, r, size).count * width; };
    const auto got = [&](int r) { return scratch_.data() + r * mine.count * width; };
    transport_.exchange(
        {.send = place, .receive = got, .send_bytes = bytes, .receive_bytes = [&](int) {
           return bytes(rank);
         }});
    std::vector<const std::byte*> parts;
    for (int r = 0; r < size; ++r) parts.push_back(r == rank ? place(r) : got(r));
    reduce_in_order(c.in.dtype(), c.op, parts, place(rank), mine.count);
    transport_.exchange({.send = [&](int) { return place(rank); },
                         .receive = place,
                         .send_bytes = [&](int) { return bytes(rank); },
                         .receive_bytes = bytes});
  }
}

void Collectives::reduce_scatter(const Collective& c) {
  const int rank = transport_.rank(), size = transport_.size();
  const auto width = static_cast<std::int64_t>(size_of(c.in.dtype()));
  const std::int64_t part = c.out.numel(), step = std::max<std::int64_t>(1, kSegment / size);
  for (std::int64_t begin = 0; begin < part; begin += step) {
    const std::int64_t count = std::min(step, part - begin);
    scratch_.resize(static_cast<std::size_t>(count * width * size));
    const auto place = [&](int r) { return c.in.bytes() + (r * part + begin) * width; };
    const auto got = [&](int r) { return scratch_.data() + r * count * width; };
    const auto bytes = [&](int) { return count * width; };
    transport_.exchange(
        {.send = place, .receive = got, .send_bytes = bytes, .receive_bytes = bytes});
    std::vector<const std::byte*> parts;
    for (int r = 0; r < size; ++r) parts.push_back(r == rank ? place(r) : got(r));
    reduce_in_order(c.in.dtype(), c.op, parts, c.out.bytes() + begin * width, count);
  }
}

void Collectives::all_gather(const Collective& c) {
  const auto block = static_cast<std::int64_t>(c.in.byte_count());
  const auto rank = transport_.rank();
  std::byte* own = c.out.bytes() + rank * block;
  if (own != c.in.bytes()) std::memcpy(own, c.in.bytes(), c.in.byte_count());
  for (std::int64_t begin = 0; begin < block; begin += kBlockBytes) {
    const auto bytes = [&](int) { return std::min(kBlockBytes, block - begin); };
    transport_.exchange({.send = [&](int) { return own + begin; },
                         .receive = [&](int r) { return c.out.bytes() + r * block + begin; },
                         .send_bytes = bytes,
                         .receive_bytes = bytes});
  }
}

void Collectives::shift(const Collective& c) {
  const int rank = transport_.rank(), size = transport_.size();
  if (size == 1) {
    std::memcpy(c.out.bytes(), c.in.bytes(), c.in.byte_count());
    return;
  }
  const int next = (rank + 1) % size, previous = (rank + size - 1) % size;
  const auto all = static_cast<std::int64_t>(c.in.byte_count());
  for (std::int64_t begin = 0; begin < all; begin += kShiftBytes) {
    const std::int64_t bytes = std::min(kShiftBytes, all - begin);
    transport_.exchange({.send = [&](int) { return c.in.bytes() + begin; },
                         .receive = [&](int) { return c.out.bytes() + begin; },
                         .send_bytes = [&](int to) { return to == next ? bytes : 0; },
                         .receive_bytes = [&](int from) { return from == previous ? bytes : 0; }});
  }
}

}  // namespace onpa::dist::detail
