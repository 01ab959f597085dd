// What `onpa train --profile` and `onpa bench` show and write of recorded steps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "apps/training/profile.h"
#include "tensor/roofline.h"

namespace onpa::apps {

/// One op over all recorded steps.
struct ProfileRow {
  std::string op;
  std::int64_t calls = 0;
  double seconds = 0, flops = 0, bytes = 0;
};

struct ProfileTable {
  std::string device;  // "the CPU, 2 threads"
  std::int64_t first_step = 0, steps = 0;
  double seconds = 0;           // of the steps, one after the other
  std::vector<ProfileRow> ops;  // longest first
  double ops_seconds = 0;
  double wait_seconds = 0;   // for data, while no op ran
  double other_seconds = 0;  // neither
  Roofline limits;

  /// The least time that the op's work can take, over the time that it took; NaN for an op without
  /// work.
  double share_of_limit(const ProfileRow& row) const;
  /// Whether multiply-adds are what bounds the op, and not the memory.
  bool bound_by_flops(const ProfileRow& row) const;
};

ProfileTable profile_table(const Profile& profile, const std::string& device,
                           const Roofline& limits);
/// Of the device that the steps were taken on, whose limits are measured now. There are none, with
/// a warning, where the GPU lacks the memory to measure them.
ProfileTable profile_table(const Profile& profile);
/// For people: aligned columns, one line an op.
std::string profile_rows_text(const ProfileTable& table);
/// The same under lines that say what was recorded, and the limits.
std::string profile_text(const ProfileTable& table);
/// One row an op, and rows "(waiting for data)", "(not in any op)" and "(all)"; with a header.
std::string profile_csv(const ProfileTable& table);
/// Chrome's trace event format, which chrome://tracing and Perfetto open: what the main thread did,
/// when it waited for the loader, and ops on the GPU.
std::string profile_trace(const Profile& profile);

/// Writes profile.json (the trace) and profile.csv into `folder`: both or, if it throws Error
/// (kCannotCreate, kIo), none.
void write_profile(const std::filesystem::path& folder, const Profile& profile,
                   const ProfileTable& table);

}  // namespace onpa::apps
