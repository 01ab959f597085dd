#include "dist/tcp/transport.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dist/tcp/control.h"
#include "kernels/error.h"

namespace onpa::dist::tcp {
namespace {

constexpr auto kLong = std::chrono::seconds(60);

std::array<Socket, 2> connected() {
  int fds[2] = {-1, -1};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
  return {Socket(fds[0]), Socket(fds[1])};
}

std::vector<Socket> list(Socket a, Socket b = {}, Socket c = {}) {
  std::vector<Socket> all;
  for (Socket* one : {&a, &b, &c}) all.push_back(std::move(*one));
  return all;
}

// Rank 0 of three; of the others there are the far ends of its connections and, of rank 2, what it
// has to tell that it ends the job.
class TcpTransport : public ::testing::Test {
 protected:
  void say(int rank, std::int32_t value) {
    ASSERT_TRUE(send_until(far_[rank], &value, sizeof value, Clock::now() + kLong));
  }
  static void ignore(const Loss&) {}

  std::array<Socket, 2> to_1_ = connected(), to_2_ = connected(), control_1_ = connected(),
                        control_2_ = connected();
  std::array<Socket, 3> far_ = {Socket(), std::move(to_1_[1]), std::move(to_2_[1])};
  Control control_{0, list({}, std::move(control_1_[0]), std::move(control_2_[0])), kLong, ignore};
  Control of_2_{2, list(std::move(control_2_[1])), kLong, ignore};
  Transport transport_{0, list({}, std::move(to_1_[0]), std::move(to_2_[0])), control_};
  std::array<std::int32_t, 3> all_ = {};
  const std::int32_t mine_ = 10;
};

// Rank 2 has heard all and ends the job for it; what it knows is still on its way to rank 0.
TEST_F(TcpTransport, HearsTheRestOfACollectiveAfterALoss) {
  say(2, 12);
  of_2_.end(65);
  ASSERT_TRUE(control_.loss(kLong));
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    say(1, 11);
  });
  EXPECT_NO_THROW(transport_.gather_small(&mine_, all_.data(), sizeof mine_));
  later.join();
  EXPECT_EQ(all_, (std::array<std::int32_t, 3>{10, 11, 12}));
}

TEST_F(TcpTransport, DoesNotWaitLongForWhatDoesNotCome) {
  say(2, 12);
  of_2_.end(65);
  try {
    transport_.gather_small(&mine_, all_.data(), sizeof mine_);
    FAIL() << "rank 1 has said nothing";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kStopped);
    EXPECT_STREQ(e.what(), "rank 2 has ended the job with exit code 65");
  }
}

}  // namespace
}  // namespace onpa::dist::tcp
