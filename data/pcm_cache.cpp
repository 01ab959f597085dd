#include <sys/stat.h>
#include <sys/statvfs.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <optional>
#include <string_view>

#include "data/file.h"
#include "data/loader.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporaryPrefix = ".tmp-";  // of io::write_file_atomic

// To be raised when decoding or resampling changes what a file sounds like.
constexpr std::uint32_t kVersion = 1;
constexpr char kMagic[8] = {'o', 'n', 'p', 'a', 'P', 'C', 'M', '\n'};
constexpr float kScale = 32768;

// What an entry was made from; an entry with another source is out of date.
struct Source {
  std::uint64_t bytes = 0;
  std::int64_t mtime_ns = 0;
  bool operator==(const Source&) const = default;
};

struct Header {
  char magic[8];
  std::uint64_t checksum;  // xxh3-64 of everything after this field
  std::uint32_t version, rate_hz;
  Source source;
  std::uint64_t samples;
};
static_assert(sizeof(Header) == 48 && std::endian::native == std::endian::little);
constexpr std::size_t kUnhashedBytes = 16;
constexpr std::uint64_t kMaxRoomBytes = std::uint64_t{1} << 30;

std::uint64_t checksum_of(std::string_view entry) {
  return XXH3_64bits(entry.data() + kUnhashedBytes, entry.size() - kUnhashedBytes);
}

std::optional<Source> source_of(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  return Source{static_cast<std::uint64_t>(info.st_size),
                std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec};
}

std::vector<std::int16_t> to_pcm16(const std::vector<float>& samples) {
  std::vector<std::int16_t> pcm(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    pcm[i] = static_cast<std::int16_t>(
        std::lrintf(std::clamp(samples[i] * kScale, -kScale, kScale - 1)));
  }
  return pcm;
}

std::vector<float> to_float(const std::int16_t* pcm, std::size_t count) {
  std::vector<float> samples(count);
  for (std::size_t i = 0; i < count; ++i) samples[i] = static_cast<float>(pcm[i]) / kScale;
  return samples;
}

std::string encode_entry(const std::vector<std::int16_t>& pcm, const Source& source) {
  Header header{{}, 0, kVersion, audio::kModelRateHz, source, pcm.size()};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  std::string entry(sizeof header + 2 * pcm.size(), '\0');
  std::memcpy(entry.data(), &header, sizeof header);
  if (!pcm.empty()) std::memcpy(entry.data() + sizeof header, pcm.data(), 2 * pcm.size());
  header.checksum = checksum_of(entry);
  std::memcpy(entry.data(), &header, sizeof header);
  return entry;
}

enum class Found { kHit, kNothing, kStale, kDamaged };

Found decode_entry(std::string_view entry, const Source& source, std::vector<float>& samples) {
  Header header;
  if (entry.size() < sizeof header) return Found::kDamaged;
  std::memcpy(&header, entry.data(), sizeof header);
  const std::size_t data_bytes = entry.size() - sizeof header;
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || data_bytes % 2 != 0 ||
      header.samples != data_bytes / 2 || header.checksum != checksum_of(entry)) {
    return Found::kDamaged;
  }
  if (header.version != kVersion || header.rate_hz != audio::kModelRateHz ||
      header.source != source) {
    return Found::kStale;
  }
  std::vector<std::int16_t> pcm(data_bytes / 2);
  if (!pcm.empty()) std::memcpy(pcm.data(), entry.data() + sizeof header, data_bytes);
  samples = to_float(pcm.data(), pcm.size());
  return Found::kHit;
}

// "ab/abcdef0123456789.pcm"; the subfolders keep directory listings short.
fs::path entry_name(const fs::path& path) {
  const std::string key = path.string();
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx",
                static_cast<unsigned long long>(XXH3_64bits(key.data(), key.size())));
  return fs::path(std::string(hex, 2)) / (std::string(hex) + ".pcm");
}

// Only files that carry an entry's name are ever removed, whatever else is in the folder.
bool is_entry_name(const fs::path& path) {
  std::string name = path.filename().string();
  if (name.starts_with(kTemporaryPrefix)) name.erase(0, kTemporaryPrefix.size());
  return name.size() >= 20 && name.find_first_not_of("0123456789abcdef") == 16 &&
         name.compare(16, 4, ".pcm") == 0 && path.parent_path().filename() == name.substr(0, 2);
}

struct Entry {
  fs::file_time_type time;
  fs::path path;
  std::uint64_t bytes;
};

// All entries, oldest first. Removes what a killed writer left.
std::vector<Entry> list_entries(const fs::path& folder) {
  std::vector<Entry> entries;
  std::error_code error;
  const auto long_ago = fs::file_time_type::clock::now() - std::chrono::hours(1);
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    // Another process may remove a file between listing and looking; such a file counts as gone.
    std::error_code gone;
    if (!it->is_regular_file(gone) || !is_entry_name(it->path())) continue;
    const Entry entry{it->last_write_time(gone), it->path(), it->file_size(gone)};
    if (gone) continue;
    if (entry.path.extension() == ".pcm") {
      entries.push_back(entry);
    } else if (entry.time < long_ago) {
      fs::remove(entry.path, gone);
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.time != b.time ? a.time < b.time : a.path < b.path;
  });
  return entries;
}

}  // namespace

struct PcmCache::State {
  fs::path folder;
  std::uint64_t max_bytes = 0;
  mutable std::mutex mutex;  // guards what follows
  Stats stats;
  std::string problem;
  std::uint64_t written_since_listing = 0;

  Found read(const fs::path& entry, const Source& source, std::vector<float>& samples) const {
    try {
      return decode_entry(read_file(entry), source, samples);
    } catch (const Error& e) {
      return e.code() == ExitCode::kInputMissing ? Found::kNothing : Found::kDamaged;
    }
  }

  void write(const fs::path& entry, const std::string& bytes) {
    try {
      const io::FaultScope faults(io::FileKind::kCache);
      leave_room(bytes.size());
      io::make_folders(entry.parent_path());
      io::write_file_atomic(entry, bytes, /*durable=*/false);
    } catch (const Error& error) {
      const std::lock_guard lock(mutex);
      if (++stats.failed_writes == 1) problem = error.what();
      return;
    }
    const std::lock_guard lock(mutex);
    stats.bytes += bytes.size();
    written_since_listing += bytes.size();
    // Other processes write too: look at the folder itself now and then.
    if (stats.bytes > max_bytes || written_since_listing > max_bytes / 16) shrink();
  }

  // Throws Error (kIo) if `bytes` more would take the last room on the disk, which checkpoints and
  // metrics need more.
  void leave_room(std::uint64_t bytes) const {
    struct statvfs status {};
    if (::statvfs(folder.c_str(), &status) != 0) return;  // then the write will tell
    const std::uint64_t total = std::uint64_t{status.f_blocks} * status.f_frsize;
    const std::uint64_t free_bytes = std::uint64_t{status.f_bavail} * status.f_frsize;
    if (free_bytes >= bytes + std::min(total / 20, kMaxRoomBytes)) return;
    fail(ExitCode::kIo, "cannot write to ", folder.string(), ": ", free_bytes / 1000000,
         " MB free on the device are too few");
  }

  // Removes the oldest entries until a sixteenth of the limit is free, so that a full cache is not
  // listed at each write. Called with the mutex held.
  void shrink() {
    const std::vector<Entry> entries = list_entries(folder);
    stats.bytes = 0;
    for (const Entry& entry : entries) stats.bytes += entry.bytes;
    written_since_listing = 0;
    if (stats.bytes <= max_bytes) return;
    for (const Entry& entry : entries) {
      if (stats.bytes <= max_bytes - max_bytes / 16) break;
      std::error_code error;
      if (!fs::remove(entry.path, error)) continue;
      stats.bytes -= entry.bytes;
      ++stats.evicted;
    }
  }
};

PcmCache::PcmCache(fs::path folder, std::uint64_t max_bytes) : state_(std::make_shared<State>()) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error && error != std::errc::no_space_on_device) {
    fail(ExitCode::kCannotCreate, folder.string(),
         ": cannot create the PCM cache: ", error.message());
  }
  state_->folder = std::move(folder);
  state_->max_bytes = max_bytes;
  const std::lock_guard lock(state_->mutex);
  state_->shrink();
}

std::vector<float> PcmCache::get(const fs::path& path, const std::function<audio::Clip()>& decode) {
  // Looked at before decoding: a file replaced meanwhile then leaves an entry that reads as stale.
  const std::optional<Source> source = source_of(path);
  const fs::path entry = state_->folder / entry_name(path);
  std::vector<float> samples;
  const Found found = source ? state_->read(entry, *source, samples) : Found::kNothing;
  {
    const std::lock_guard lock(state_->mutex);
    ++(found == Found::kHit ? state_->stats.hits : state_->stats.misses);
    if (found == Found::kDamaged) ++state_->stats.damaged;
  }
  if (found == Found::kHit) return samples;
  const audio::Clip clip = decode();
  ONPA_CHECK(clip.rate_hz == audio::kModelRateHz, "pcm cache: ", path.string(), " at ",
             clip.rate_hz, " Hz, want ", audio::kModelRateHz);
  const std::vector<std::int16_t> pcm = to_pcm16(clip.samples);
  if (source) state_->write(entry, encode_entry(pcm, *source));
  return to_float(pcm.data(), pcm.size());
}

std::string PcmCache::problem() const {
  const std::lock_guard lock(state_->mutex);
  return state_->problem;
}

PcmCache::Stats PcmCache::stats() const {
  const std::lock_guard lock(state_->mutex);
  return state_->stats;
}

}  // namespace onpa::data
