// TensorBoard event files with scalar summaries: record framing and the few protobuf fields that
// scalars need. Source: tensorflow/core/util/event.proto, summary.proto and lib/io/record_writer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include "apps/support/metrics_log.h"
#include "tensor/io/append_file.h"

namespace onpa::apps {

/// CRC-32C (Castagnoli) of `bytes`, and the rotated form that records carry.
std::uint32_t crc32c(const void* bytes, std::size_t count);
std::uint32_t masked_crc32c(const void* bytes, std::size_t count);

/// A record: u64 length, u32 masked crc of the length, payload, u32 masked crc of the payload; all
/// little-endian.
std::string event_record(const std::string& payload);
/// An Event message with one summary value per metric.
std::string scalar_event(double wall_seconds, std::int64_t step, const Metrics& metrics);

class EventWriter {
 public:
  /// Starts a new file events.out.tfevents.* in `folder`. A `resumed_step` above 0 tells readers
  /// to drop what earlier files hold for later steps. Throws Error (kCannotCreate).
  EventWriter(const std::filesystem::path& folder, std::int64_t resumed_step);
  /// What cannot be written waits: see file().
  void append(std::int64_t step, const Metrics& metrics);
  io::AppendFile& file() { return file_; }

 private:
  io::AppendFile file_;
};

}  // namespace onpa::apps
