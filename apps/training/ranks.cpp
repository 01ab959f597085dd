#include "apps/training/ranks.h"

#include <algorithm>
#include <cstring>

#include "apps/support/failure.h"

namespace onpa::apps {
namespace {

void reduce(dist::Comm& comm, std::span<double> values, dist::ReduceOp op) {
  if (comm.size() == 1 || values.empty()) return;
  const Tensor x = Tensor::from<double>({std::ssize(values)}, values);
  comm.all_reduce(x, op);
  std::copy_n(x.data<double>(), values.size(), values.begin());
}

Tensor count_of(std::size_t size) {
  return Tensor::from<std::int64_t>({1}, {static_cast<std::int64_t>(size)});
}

// `mine` of every rank in turn; ranks may give different counts.
template <class T>
std::vector<std::vector<T>> gather(dist::Comm& comm, std::span<const T> mine) {
  if (comm.size() == 1) return {{mine.begin(), mine.end()}};
  const Tensor counts = Tensor::empty({comm.size()}, DType::kI64);
  comm.all_gather(count_of(mine.size()), counts);
  const auto count = counts.span<std::int64_t>();
  const std::int64_t most = *std::max_element(count.begin(), count.end());
  std::vector<std::vector<T>> out(count.size());
  if (most == 0) return out;
  const Tensor part = Tensor::zeros({most}, DTypeOf<T>::value);
  std::copy(mine.begin(), mine.end(), part.data<T>());
  const Tensor all = Tensor::empty({comm.size() * most}, DTypeOf<T>::value);
  comm.all_gather(part, all);
  for (std::size_t rank = 0; rank < out.size(); ++rank) {
    const T* first = all.data<T>() + static_cast<std::int64_t>(rank) * most;
    out[rank].assign(first, first + count[rank]);
  }
  return out;
}

// A text as whole numbers, its length first.
std::vector<std::int64_t> packed(const std::string& text) {
  std::vector<std::int64_t> out(1 + (text.size() + 7) / 8);
  out[0] = static_cast<std::int64_t>(text.size());
  if (!text.empty()) std::memcpy(out.data() + 1, text.data(), text.size());
  return out;
}

std::string unpacked(std::span<const std::int64_t> values) {
  return {reinterpret_cast<const char*>(values.data() + 1), static_cast<std::size_t>(values[0])};
}

}  // namespace

Ranks::Ranks(dist::Comm& comm, bool processes)
    : comm_(comm), processes_(processes), notes_(comm), watch_(comm, notes_) {}

data::Shard Ranks::shard() const {
  if (!several()) return {};
  dist::Comm& comm = comm_;
  return {.rank = rank(),
          .size = size(),
          .all_max = [&comm](std::span<double> v) { reduce(comm, v, dist::ReduceOp::kMax); },
          .all_gather =
              [&comm](std::span<const double> mine) {
                std::vector<double> all;
                for (const auto& part : gather<double>(comm, mine)) {
                  all.insert(all.end(), part.begin(), part.end());
                }
                return all;
              }};
}

void Ranks::all_sum(std::span<double> values) const {
  reduce(comm_, values, dist::ReduceOp::kSum);
}

void Ranks::all_max(std::span<double> values) const {
  reduce(comm_, values, dist::ReduceOp::kMax);
}

bool Ranks::any(bool mine) const {
  double value = mine ? 1 : 0;
  all_max({&value, 1});
  return value > 0;
}

std::vector<double> Ranks::all_gather(std::span<const double> values) const {
  return several() ? shard().all_gather(values) : std::vector<double>(values.begin(), values.end());
}

std::vector<std::uint64_t> Ranks::all_gather(std::uint64_t value) const {
  const auto mine = static_cast<std::int64_t>(value);
  std::vector<std::uint64_t> out;
  for (const auto& part : gather<std::int64_t>(comm_, {&mine, 1})) {
    out.push_back(static_cast<std::uint64_t>(part.front()));
  }
  return out;
}

std::vector<std::string> Ranks::all_gather_text(const std::string& text) const {
  const std::vector<std::int64_t> mine = packed(text);
  std::vector<std::string> out;
  for (const auto& part : gather<std::int64_t>(comm_, mine)) out.push_back(unpacked(part));
  return out;
}

std::string Ranks::broadcast_text(const std::string& text, int root) const {
  if (!several()) return text;
  const std::vector<std::int64_t> mine = packed(text);
  const Tensor count = count_of(mine.size());
  comm_.broadcast(count, root);
  const Tensor values = Tensor::zeros({*count.data<std::int64_t>()}, DType::kI64);
  if (rank() == root) std::copy(mine.begin(), mine.end(), values.data<std::int64_t>());
  comm_.broadcast(values, root);
  return unpacked(values.span<std::int64_t>());
}

double Ranks::broadcast(double value) const {
  if (!several()) return value;
  const Tensor x = Tensor::full({1}, value, DType::kF64);
  comm_.broadcast(x);
  return x.item();
}

void Ranks::on_first(const std::function<void()>& work) const {
  if (!several()) return work();
  std::exception_ptr error;
  Failure failure;
  if (first()) {
    try {
      work();
    } catch (const std::exception& thrown) {
      error = std::current_exception();
      failure = failure_of(thrown);
    }
  }
  const int code = static_cast<int>(broadcast(failure.code));
  if (code == 0) return;
  const std::string message = broadcast_text(failure.message);
  if (error) std::rethrow_exception(error);
  throw ElsewhereError("rank 0: " + message, static_cast<ExitCode>(code));
}

void Ranks::start_watch(double seconds) {
  watch_.start(seconds);
}

void Ranks::progress(std::int64_t step) {
  watch_.progress(step);
}

void Ranks::phase(const char* name) {
  watch_.phase(name);
}

}  // namespace onpa::apps
