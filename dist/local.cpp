#include "dist/local.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "dist/host.h"

namespace onpa::dist {
namespace {

using detail::HostWork;
using Kind = Collective::Kind;

// The k-th collective of each rank.
struct Round {
  explicit Round(int size) : calls(size) {
    for (int i = 0; i < size; ++i) works.push_back(std::make_shared<HostWork>());
  }
  std::vector<std::optional<Collective>> calls;
  std::vector<std::shared_ptr<HostWork>> works;
};

void all_gather(const Round& round) {
  for (const auto& to : round.calls) {
    std::byte* place = to->out.bytes();
    for (const auto& from : round.calls) {
      const std::size_t bytes = from->in.byte_count();
      if (place != from->in.bytes()) std::memcpy(place, from->in.bytes(), bytes);
      place += bytes;
    }
  }
}

void broadcast(const Round& round, const Tensor& source) {
  for (const auto& call : round.calls) {
    if (call->out.bytes() == source.bytes()) continue;
    std::memcpy(call->out.bytes(), source.bytes(), source.byte_count());
  }
}

void shift(const Round& round) {
  const std::size_t size = round.calls.size();
  for (std::size_t rank = 0; rank < size; ++rank) {
    const Tensor& to = round.calls[rank]->out;
    std::memcpy(to.bytes(), round.calls[(rank + size - 1) % size]->in.bytes(), to.byte_count());
  }
}

// Rank r gets the reduction of everybody's elements from r * stride on.
void reduce(const Round& round, std::size_t rank, std::int64_t stride) {
  const Collective& call = *round.calls[rank];
  const std::size_t offset = rank * static_cast<std::size_t>(stride) * size_of(call.in.dtype());
  std::vector<const std::byte*> parts;
  for (const auto& other : round.calls) parts.push_back(other->in.bytes() + offset);
  detail::reduce_in_order(call.in.dtype(), call.op, parts, call.out.bytes(), call.out.numel());
}

void carry_out(const Round& round) {
  const Collective& first = *round.calls[0];
  for (std::size_t rank = 1; rank < round.calls.size(); ++rank) {
    const Collective& other = *round.calls[rank];
    ONPA_CHECK(first.matches(other), "rank 0 calls ", first.name(), ", rank ", rank, " ",
               other.name());
  }
  switch (first.kind) {
    case Kind::kBarrier:
      return;
    case Kind::kBroadcast:
      return broadcast(round, round.calls[static_cast<std::size_t>(first.root)]->in);
    case Kind::kAllGather:
      return all_gather(round);
    case Kind::kShift:
      return shift(round);
    case Kind::kAllReduce:
      reduce(round, 0, 0);
      return broadcast(round, first.out);
    case Kind::kReduceScatter:
      for (std::size_t rank = 0; rank < round.calls.size(); ++rank) {
        reduce(round, rank, round.calls[rank]->out.numel());
      }
      return;
  }
}

// What the ranks share: their calls, and the thread that carries them out in order.
class Group {
 public:
  explicit Group(int size)
      : size_(size),
        calls_(static_cast<std::size_t>(size)),
        left_(static_cast<std::size_t>(size)),
        notes_(static_cast<std::size_t>(size)),
        worker_([this] { work(); }) {}

  ~Group() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    worker_.join();
  }

  std::shared_ptr<HostWork> post(int rank, Collective call) {
    const auto at = static_cast<std::size_t>(rank);
    const std::lock_guard lock(mutex_);
    const std::uint64_t place = calls_[at]++ - first_round_;
    while (rounds_.size() <= place) rounds_.emplace_back(size_);
    Round& round = rounds_[place];
    round.calls[at] = std::move(call);
    if (lost_ >= 0) give_up(round, at);
    changed_.notify_all();
    return round.works[at];
  }

  // No more calls come from `rank`; `error` is why, null if its body returned.
  void leave(int rank, std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    left_[static_cast<std::size_t>(rank)] = error ? "has failed" : "has ended";
    if (error && !first_error_) first_error_ = std::move(error);
    changed_.notify_all();
  }

  void send_note(int from, int to, const std::string& text) {
    const std::lock_guard lock(mutex_);
    notes_.at(static_cast<std::size_t>(to)).push_back({from, text.substr(0, Comm::kLongestNote)});
  }

  std::vector<Note> take_notes(int rank) {
    const std::lock_guard lock(mutex_);
    return std::exchange(notes_[static_cast<std::size_t>(rank)], {});
  }

  std::exception_ptr first_error() {
    const std::lock_guard lock(mutex_);
    return first_error_;
  }

 private:
  bool all_called(const Round& round) const {
    return std::all_of(round.calls.begin(), round.calls.end(),
                       [](const auto& call) { return call.has_value(); });
  }

  // A rank that the first round waits for in vain; -1 if there is none.
  int missing() const {
    for (int rank = 0; rank < size_; ++rank) {
      const auto at = static_cast<std::size_t>(rank);
      if (left_[at] && !rounds_.front().calls[at]) return rank;
    }
    return -1;
  }

  void give_up(const Round& round, std::size_t rank) const {
    const std::string why =
        onpa::detail::concat("rank ", rank, ": ", round.calls[rank]->name(), ": rank ", lost_, " ",
                             left_[static_cast<std::size_t>(lost_)]);
    round.works[rank]->finish(std::make_exception_ptr(Error(why, ExitCode::kStopped)));
  }

  // Until the group ends, or a round cannot: all calls from then on fail where they are posted.
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] {
        return stopping_ || (!rounds_.empty() && (all_called(rounds_.front()) || missing() >= 0));
      });
      if (rounds_.empty()) return;
      if (!all_called(rounds_.front())) break;
      const Round round = std::move(rounds_.front());
      rounds_.pop_front();
      ++first_round_;
      lock.unlock();
      std::exception_ptr error;
      try {
        carry_out(round);
      } catch (...) {
        error = std::current_exception();
      }
      for (const auto& work : round.works) work->finish(error);
      lock.lock();
    }
    lost_ = missing();
    for (const Round& round : rounds_) {
      for (std::size_t rank = 0; rank < round.calls.size(); ++rank) {
        if (round.calls[rank]) give_up(round, rank);
      }
    }
  }

  const int size_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Round> rounds_;              // not carried out yet
  std::uint64_t first_round_ = 0;         // number of rounds_.front()
  std::vector<std::uint64_t> calls_;      // by rank, how many it has made
  std::vector<const char*> left_;         // by rank, null while it runs
  std::vector<std::vector<Note>> notes_;  // by rank that they are for
  std::exception_ptr first_error_;
  int lost_ = -1;  // the rank without which the first round cannot end
  bool stopping_ = false;
  std::thread worker_;
};

class LocalComm : public Comm {
 public:
  LocalComm(Group& group, int rank, int size) : Comm(rank, size), group_(group) {}

  void send_note(int to, const std::string& text) override { group_.send_note(rank(), to, text); }
  std::vector<Note> take_notes() override { return group_.take_notes(rank()); }

  void abort(int code) override {
    const int valid = code >= 1 && code <= 255 ? code : static_cast<int>(ExitCode::kInternal);
    fail(static_cast<ExitCode>(valid), "rank ", rank(), " aborts with code ", valid);
  }

 protected:
  Work start(Collective collective) override {
    detail::check_on_host(collective, rank());
    return Work(group_.post(rank(), std::move(collective)));
  }

 private:
  Group& group_;
};

}  // namespace

void run_local(int size, const std::function<void(Comm&)>& body) {
  ONPA_CHECK(size >= 1, "a group of ", size, " ranks");
  Group group(size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      std::exception_ptr error;
      try {
        LocalComm comm(group, rank, size);
        body(comm);
      } catch (...) {
        error = std::current_exception();
      }
      group.leave(rank, error);
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (const std::exception_ptr error = group.first_error()) std::rethrow_exception(error);
}

}  // namespace onpa::dist
