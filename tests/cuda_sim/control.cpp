// Options from the environment, schedules, and where launches go.
#include "tests/cuda_sim/control.h"

#include <cstdlib>
#include <utility>

#include "tests/cuda_sim/engine.h"

namespace sim {

namespace {

constexpr const char* kPolicies[] = {"inorder", "reverse", "uniform", "priority"};
constexpr const char* kDeliveries[] = {"late", "early", "random"};

template <class E, std::size_t N>
E named(const char* variable, const char* const (&names)[N], E otherwise) {
  const char* value = std::getenv(variable);
  if (value == nullptr) return otherwise;
  for (std::size_t i = 0; i < N; ++i) {
    if (std::string(value) == names[i]) return static_cast<E>(i);
  }
  throw Error(std::string(variable) + "=" + value + " is not known");
}

std::uint64_t number(const char* variable, std::uint64_t otherwise) {
  const char* value = std::getenv(variable);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

Options from_environment() {
  Options o;
  o.seed = number("SIM_SEED", o.seed);
  o.policy = named("SIM_POLICY", kPolicies, o.policy);
  o.cp_async = named("SIM_CP_ASYNC", kDeliveries, o.cp_async);
  o.resident_blocks = static_cast<int>(number("SIM_BLOCKS", 1));
  return o;
}

LaunchSink& sink() {
  static LaunchSink instance;
  return instance;
}

}  // namespace

Options& options() {
  static Options instance = from_environment();
  return instance;
}

Stats& stats() {
  static Stats instance;
  return instance;
}

LaunchSink set_launch_sink(LaunchSink to) {
  return std::exchange(sink(), std::move(to));
}

namespace detail {
void send(Launch launch) {
  if (sink()) {
    sink()(std::move(launch));
  } else {
    run(launch);
  }
}
}  // namespace detail

std::string schedule_name() {
  const Options& o = options();
  return std::string("SIM_POLICY=") + kPolicies[static_cast<int>(o.policy)] +
         " SIM_CP_ASYNC=" + kDeliveries[static_cast<int>(o.cp_async)] +
         " SIM_BLOCKS=" + std::to_string(o.resident_blocks) + " SIM_SEED=" + std::to_string(o.seed);
}

void for_schedules(const std::function<void()>& f) {
  struct Schedule {
    Policy policy;
    CpAsync cp_async;
    int resident_blocks;
  };
  constexpr Schedule kSchedules[] = {{Policy::kInOrder, CpAsync::kEarly, 1},
                                     {Policy::kReverse, CpAsync::kLate, 1},
                                     {Policy::kUniform, CpAsync::kLate, 2},
                                     {Policy::kPriority, CpAsync::kLate, 1},
                                     {Policy::kPriority, CpAsync::kLate, 3}};
  struct Restore {
    Options before = options();
    ~Restore() { options() = before; }
  } restore;
  std::uint64_t i = 0;
  for (const Schedule& schedule : kSchedules) {
    options() = restore.before;
    options().policy = schedule.policy;
    options().cp_async = schedule.cp_async;
    options().resident_blocks = schedule.resident_blocks;
    options().seed = restore.before.seed + i++;
    detail::engine().launch_number = 0;
    f();
  }
}

}  // namespace sim
