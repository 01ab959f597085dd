#include "tests/dist/comm_checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

namespace onpa::dist::testing {
namespace {

// Empty, one, a prime, a block of the reduction less one, several blocks and a tail.
constexpr std::int64_t kSizes[] = {0, 1, 7, 1023, 5003, 20011};

// What rank `rank` holds: magnitudes far apart, so that the order of a sum shows in its bits.
template <class T>
Tensor values_of(int rank, std::int64_t n) {
  Tensor x = Tensor::empty({n}, DTypeOf<T>::value);
  std::uint64_t state = 0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(rank + 1);
  for (T& v : x.span<T>()) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto bits = static_cast<std::int64_t>(state) >> 8;  // eight of them have a sum
    v = static_cast<T>(std::is_integral_v<T> ? bits : (bits | 1) >> (bits & 31));
  }
  return x;
}

template <class T>
std::vector<T> reduced(int size, std::int64_t n, ReduceOp op) {
  std::vector<T> out = values_of<T>(0, n).template to_vector<T>();
  for (int rank = 1; rank < size; ++rank) {
    const auto x = values_of<T>(rank, n).template to_vector<T>();
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = op == ReduceOp::kSum ? static_cast<T>(out[i] + x[i]) : std::max(out[i], x[i]);
    }
  }
  return out;
}

template <class T>
void expect_same(const Tensor& got, const std::vector<T>& want, const char* what, int rank) {
  const auto values = got.span<T>();
  ASSERT_EQ(values.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    // == on purpose: the bits have to agree (no zero and no NaN here).
    ASSERT_EQ(values[i], want[i]) << what << ", rank " << rank << ", element " << i << " of "
                                  << want.size();
  }
}

template <class T>
void check_all_reduce(Comm& comm, std::int64_t n, ReduceOp op) {
  const Tensor x = values_of<T>(comm.rank(), n);
  comm.all_reduce(x, op);
  expect_same(x, reduced<T>(comm.size(), n, op), "all_reduce", comm.rank());
}

template <class T>
void check_reduce_scatter(Comm& comm, std::int64_t n, ReduceOp op) {
  const int rank = comm.rank(), size = comm.size();
  const auto whole = reduced<T>(size, n * size, op);
  const std::vector<T> mine(whole.begin() + rank * n, whole.begin() + (rank + 1) * n);
  const Tensor all = values_of<T>(rank, n * size);
  const Tensor part = Tensor::empty({n}, DTypeOf<T>::value);
  comm.reduce_scatter(all, part, op);
  expect_same(part, mine, "reduce_scatter", rank);
  expect_same(all, values_of<T>(rank, n * size).template to_vector<T>(), "what it left", rank);
  const Tensor block = all.slice(rank * n, (rank + 1) * n);
  comm.reduce_scatter(all, block, op);
  expect_same(block, mine, "reduce_scatter in place", rank);
}

template <class T>
void check_broadcast(Comm& comm, std::int64_t n) {
  for (const int root : {0, comm.size() - 1}) {
    const Tensor x = values_of<T>(comm.rank(), n);
    comm.broadcast(x, root);
    expect_same(x, values_of<T>(root, n).template to_vector<T>(), "broadcast", comm.rank());
  }
}

template <class T>
void check_all_gather(Comm& comm, std::int64_t n) {
  const int rank = comm.rank(), size = comm.size();
  std::vector<T> want;
  for (int other = 0; other < size; ++other) {
    const auto x = values_of<T>(other, n).template to_vector<T>();
    want.insert(want.end(), x.begin(), x.end());
  }
  const Tensor all = Tensor::zeros({size * n}, DTypeOf<T>::value);
  comm.all_gather(values_of<T>(rank, n), all);
  expect_same(all, want, "all_gather", rank);
  all.zero();
  const Tensor block = all.slice(rank * n, (rank + 1) * n);
  block.copy_from(values_of<T>(rank, n));
  comm.all_gather(block, all);
  expect_same(all, want, "all_gather in place", rank);
}

template <class T>
void check_shift(Comm& comm, std::int64_t n) {
  const int previous = (comm.rank() + comm.size() - 1) % comm.size();
  const Tensor got = Tensor::zeros({n}, DTypeOf<T>::value);
  comm.shift(values_of<T>(comm.rank(), n), got);
  expect_same(got, values_of<T>(previous, n).template to_vector<T>(), "shift", comm.rank());
}

template <class T>
void check_type(Comm& comm) {
  for (const std::int64_t n : kSizes) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
      check_all_reduce<T>(comm, n, op);
      check_reduce_scatter<T>(comm, n, op);
    }
    check_broadcast<T>(comm, n);
    check_all_gather<T>(comm, n);
    check_shift<T>(comm, n);
  }
}

}  // namespace

void check_values(Comm& comm) {
  check_type<float>(comm);
  check_type<double>(comm);
  check_type<std::int64_t>(comm);

  // A NaN of any rank is the maximum.
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int owner = 0; owner < comm.size(); ++owner) {
    Tensor x = Tensor::full({3}, comm.rank());
    if (comm.rank() == owner) x.data<float>()[1] = nan;
    comm.all_reduce(x, ReduceOp::kMax);
    EXPECT_EQ(x.data<float>()[0], static_cast<float>(comm.size() - 1));
    EXPECT_TRUE(std::isnan(x.data<float>()[1])) << "owner " << owner;
  }
}

void check_started_together(Comm& comm) {
  constexpr int kCalls = 20;
  std::vector<Tensor> tensors;
  std::vector<Work> works;
  for (int i = 0; i < kCalls; ++i) {
    tensors.push_back(values_of<float>(comm.rank(), 1 + 997 * i));
    works.push_back(i % 3 == 2 ? comm.start_broadcast(tensors.back(), i % comm.size())
                               : comm.start_all_reduce(tensors.back()));
  }
  for (int i = kCalls; i-- > 0;) {
    works[i].wait();
    EXPECT_TRUE(works[i].done());
    works[i].wait();
    for (int before = 0; before < i; ++before) EXPECT_TRUE(works[before].done()) << before;
    const std::int64_t n = tensors[i].numel();
    expect_same(tensors[i],
                i % 3 == 2 ? values_of<float>(i % comm.size(), n).to_vector<float>()
                           : reduced<float>(comm.size(), n, ReduceOp::kSum),
                "started together", comm.rank());
  }
  // Nobody waits for these; their tensors have to live until they have ended.
  for (int i = 0; i < kCalls; ++i) {
    static_cast<void>(comm.start_all_reduce(Tensor::full({10007}, 1)));
  }
  comm.barrier();
}

void check_long_tensor(Comm& comm, std::int64_t n) {
  const std::int64_t part = n / comm.size() + 7;
  check_all_reduce<float>(comm, n, ReduceOp::kSum);
  check_reduce_scatter<float>(comm, part, ReduceOp::kSum);
  check_broadcast<float>(comm, n);
  check_all_gather<float>(comm, part);
  check_shift<float>(comm, n);
}

void check_refusals(Comm& comm) {
  const auto refused = [&](const auto& call) {
    try {
      call();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInternal);
      EXPECT_NE(std::string(e.what()).find("rank " + std::to_string(comm.rank())),
                std::string::npos)
          << e.what();
      return true;
    }
    return false;
  };
  const Tensor x = Tensor::zeros({6});
  EXPECT_TRUE(refused([&] { comm.all_reduce(Tensor()); }));
  EXPECT_TRUE(refused([&] { comm.all_reduce(Tensor::zeros({6}, DType::kI32)); }));
  EXPECT_TRUE(refused([&] { comm.broadcast(x, comm.size()); }));
  EXPECT_TRUE(refused([&] { comm.broadcast(x, -1); }));
  EXPECT_TRUE(refused([&] { comm.all_gather(x, Tensor::zeros({6 * comm.size() + 1})); }));
  EXPECT_TRUE(refused([&] { comm.all_gather(x, Tensor::zeros({6 * comm.size()}, DType::kF64)); }));
  EXPECT_TRUE(refused([&] { comm.reduce_scatter(Tensor::zeros({6 * comm.size() + 1}), x); }));
  EXPECT_TRUE(refused([&] { comm.shift(x, Tensor::zeros({7})); }));
  comm.all_reduce(x);
}

void check_notes(Comm& comm) {
  comm.barrier();
  const std::uint64_t before = comm.calls().count;
  const std::string longest(Comm::kLongestNote, 'x');
  for (int to = 0; to < comm.size(); ++to) {
    if (to == comm.rank()) continue;
    for (const char* word : {"first", "", "third"}) comm.send_note(to, word);
    comm.send_note(to, longest + "more");
  }
  std::map<int, std::vector<std::string>> got;
  int count = 0;
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (count < 4 * (comm.size() - 1) && std::chrono::steady_clock::now() < until) {
    for (Note& note : comm.take_notes()) {
      got[note.from].push_back(std::move(note.text));
      ++count;
    }
  }
  EXPECT_EQ(std::ssize(got), comm.size() - 1);
  for (const auto& [from, texts] : got) {
    EXPECT_NE(from, comm.rank());
    EXPECT_EQ(texts, (std::vector<std::string>{"first", "", "third", longest}));
  }
  EXPECT_EQ(comm.calls().count, before);
  EXPECT_EQ(comm.calls().last, "barrier");
  comm.all_reduce(Tensor::zeros({3}), ReduceOp::kMax);
  EXPECT_EQ(comm.calls().count, before + 1);
  EXPECT_EQ(comm.calls().last, "all_reduce (max) of 3 f32");
}

}  // namespace onpa::dist::testing
