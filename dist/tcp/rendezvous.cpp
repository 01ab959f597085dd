#include "dist/tcp/rendezvous.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>

#include "kernels/error.h"

namespace onpa::dist::tcp {
namespace {

constexpr std::uint64_t kMagic = 0x31706f6972706e6f;
// How long one that has connected may take to say who it is (it may be no rank at all), and ranks
// that come too late may still come to hear why.
constexpr auto kHelloTime = std::chrono::seconds(5);
// Past the deadline of rank 0 the others still wait for it to say who is missing.
constexpr auto kVerdictTime = std::chrono::seconds(10);

enum class Purpose : std::int32_t { kData, kControl, kPeer };

// The first message of every connection.
struct Hello {
  std::uint64_t magic;
  std::int32_t rank, size;
  Purpose purpose;
  std::int32_t port;  // where this rank listens for others
};

// Rank 0's answer: a table of Members, or why there is none.
struct Answer {
  std::int32_t code;  // 0 for the table
  char why[508];
};

struct Member {
  char address[60];
  std::int32_t port;
};

std::string list_of(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) text += (i ? ", " : "") + std::to_string(ranks[i]);
  return text;
}

std::vector<int> not_open(const std::vector<Socket>& sockets, int begin) {
  std::vector<int> ranks;
  for (int r = begin; r < static_cast<int>(sockets.size()); ++r) {
    if (!sockets[static_cast<std::size_t>(r)].open()) ranks.push_back(r);
  }
  return ranks;
}

// Throws Error (kStalled) at the deadline, naming the ranks that `missing` then returns.
template <class Missing>
std::pair<Socket, Hello> next_hello(const Socket& listener, Clock::time_point until, double seconds,
                                    const Missing& missing) {
  for (;;) {
    auto connection = accept_until(listener, until);
    if (!connection) {
      fail(ExitCode::kStalled, list_of(missing()), " did not come within ", seconds, " s");
    }
    Hello hello = {};
    if (receive_until(*connection, &hello, sizeof hello,
                      std::min(until, Clock::now() + kHelloTime)) &&
        hello.magic == kMagic) {
      return {std::move(*connection), hello};
    }
  }
}

// --- rank 0 ---

struct Meeting {
  Mesh mesh;
  std::vector<Member> members;
};

void take_in(Meeting& meeting, Socket& connection, const Hello& hello) {
  const int size = static_cast<int>(meeting.members.size());
  if (hello.size != size) {
    fail(ExitCode::kConfig, "rank ", hello.rank, " (", peer_address(connection), ") expects ",
         hello.size, " ranks, rank 0 expects ", size);
  }
  const std::string refusal = onpa::detail::concat("rank ", hello.rank, " of ", size);
  if (hello.rank < 1 || hello.rank >= size) fail(ExitCode::kConfig, refusal, " cannot be");
  const auto at = static_cast<std::size_t>(hello.rank);
  auto& sockets = hello.purpose == Purpose::kData ? meeting.mesh.data : meeting.mesh.control;
  if (sockets[at].open()) {
    fail(ExitCode::kConfig, "two processes call themselves ", refusal, ", the second from ",
         peer_address(connection));
  }
  if (hello.purpose == Purpose::kData) {
    Member& member = meeting.members[at];
    peer_address(connection).copy(member.address, sizeof member.address - 1);
    member.port = hello.port;
  }
  sockets[at] = std::move(connection);
}

void send_answer(const Socket& to, const Answer& answer, std::span<const Member> table = {}) {
  const auto soon = Clock::now() + kHelloTime;
  if (to.open() && send_until(to, &answer, sizeof answer, soon)) {
    send_until(to, table.data(), table.size_bytes(), soon);
  }
}

// Those that have come hear why there is no job, `newest` among them, and those that still come.
void refuse_all(const Meeting& meeting, const Socket& newest, const Socket& listener,
                const Error& e) {
  Answer answer = {.code = static_cast<std::int32_t>(e.code()), .why = {}};
  std::string(e.what()).copy(answer.why, sizeof answer.why - 1);
  send_answer(newest, answer);
  for (const Socket& other : meeting.mesh.data) send_answer(other, answer);
  std::size_t absent = not_open(meeting.mesh.data, 1).size() - (newest.open() ? 1 : 0);
  const auto until = Clock::now() + kHelloTime;
  std::vector<Socket> refused;
  while (absent > 0) {
    auto connection = accept_until(listener, until);
    if (!connection) return;
    Hello hello = {};
    if (!receive_until(*connection, &hello, sizeof hello, until)) continue;
    if (hello.magic != kMagic || hello.purpose != Purpose::kData) continue;
    send_answer(*connection, answer);
    refused.push_back(std::move(*connection));
    --absent;
  }
}

Mesh meet_as_first(int size, const MeetingPoint& at, Clock::time_point until) {
  const Socket listener = listen_at(at.port);
  Meeting meeting;
  meeting.mesh.data.resize(static_cast<std::size_t>(size));
  meeting.mesh.control.resize(static_cast<std::size_t>(size));
  meeting.members.resize(static_cast<std::size_t>(size));
  Socket newest;
  const auto take_until_all = [&](const std::vector<Socket>& sockets) {
    const auto missing = [&] { return not_open(sockets, 1); };
    while (!missing().empty()) {
      auto [connection, hello] = next_hello(listener, until, at.seconds, missing);
      newest = std::move(connection);
      take_in(meeting, newest, hello);
    }
  };
  try {
    take_until_all(meeting.mesh.data);
  } catch (const Error& e) {
    const Error whole(
        onpa::detail::concat(e.what(), "; ", size, " ranks meet at ", at.host, ":", at.port),
        e.code());
    refuse_all(meeting, newest, listener, whole);
    throw whole;
  }
  for (const Socket& other : meeting.mesh.data) send_answer(other, {}, meeting.members);
  take_until_all(meeting.mesh.control);
  return std::move(meeting.mesh);
}

// --- the others ---

Socket say_hello(Socket to, Hello hello, Purpose purpose, Clock::time_point until) {
  hello.purpose = purpose;
  if (!send_until(to, &hello, sizeof hello, until)) {
    fail(ExitCode::kStopped, "the connection to another rank broke before it was in use");
  }
  return to;
}

std::vector<Member> members_of(const Socket& first, int size, Clock::time_point until) {
  Answer answer = {};
  std::vector<Member> members(static_cast<std::size_t>(size));
  if (!receive_until(first, &answer, sizeof answer, until) ||
      (answer.code == 0 &&
       !receive_until(first, members.data(), members.size() * sizeof(Member), until))) {
    fail(ExitCode::kStopped, "rank 0 has ended before all ranks had come");
  }
  answer.why[sizeof answer.why - 1] = '\0';
  if (answer.code != 0) {
    fail(static_cast<ExitCode>(answer.code), "rank 0 says: ", answer.why);
  }
  return members;
}

Mesh meet_as_other(int rank, int size, const MeetingPoint& at, Clock::time_point until) {
  const Socket listener = listen_at(0);
  const Hello hello = {kMagic, rank, size, Purpose::kData, port_of(listener)};
  Mesh mesh;
  mesh.data.resize(static_cast<std::size_t>(size));
  mesh.data[0] = say_hello(connect_to(at.host, at.port, until), hello, Purpose::kData, until);
  const std::vector<Member> members = members_of(mesh.data[0], size, until + kVerdictTime);
  // Connecting needs no answer, so that all can connect first and accept afterwards.
  const auto soon = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                       std::chrono::duration<double>(at.seconds));
  mesh.control.push_back(
      say_hello(connect_to(at.host, at.port, soon), hello, Purpose::kControl, soon));
  for (int other = 1; other < rank; ++other) {
    const auto o = static_cast<std::size_t>(other);
    mesh.data[o] = say_hello(connect_to(members[o].address, members[o].port, soon), hello,
                             Purpose::kPeer, soon);
  }
  const auto missing = [&] { return not_open(mesh.data, rank + 1); };
  while (!missing().empty()) {
    auto [connection, from] = next_hello(listener, soon, at.seconds, missing);
    if (from.purpose != Purpose::kPeer || from.rank <= rank || from.rank >= size) continue;
    mesh.data[static_cast<std::size_t>(from.rank)] = std::move(connection);
  }
  return mesh;
}

}  // namespace

Mesh meet(int rank, int size, const MeetingPoint& at) {
  ONPA_CHECK(size > 1 && rank >= 0 && rank < size, "rank ", rank, " of ", size);
  const auto until = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                        std::chrono::duration<double>(at.seconds));
  if (rank == 0) return meet_as_first(size, at, until);
  return meet_as_other(rank, size, at, until);
}

}  // namespace onpa::dist::tcp
