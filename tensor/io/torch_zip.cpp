#include "tensor/io/torch_zip.h"

#include <zip.h>

#include <algorithm>
#include <map>
#include <utility>

#include "kernels/error.h"

namespace onpa::io {
namespace {

constexpr std::uint64_t kMostEntries = 200'000;
constexpr std::size_t kMostNameBytes = 1024;
constexpr std::string_view kPickle = "data.pkl";

struct Entry {
  zip_uint64_t index = 0;
  std::uint64_t bytes = 0;
  bool stored = true;
};

// What libzip reads `input` through.
struct Cursor {
  const ByteInput* input;
  std::uint64_t at = 0;
  zip_error_t error{};
};

zip_int64_t serve(void* state, void* data, zip_uint64_t bytes, zip_source_cmd_t command) {
  Cursor& cursor = *static_cast<Cursor*>(state);
  const std::uint64_t size = cursor.input->size();
  switch (command) {
    case ZIP_SOURCE_OPEN:
      cursor.at = 0;
      return 0;
    case ZIP_SOURCE_READ: {
      const std::uint64_t count = std::min<std::uint64_t>(bytes, size - cursor.at);
      try {
        cursor.input->read({static_cast<std::byte*>(data), static_cast<std::size_t>(count)},
                           cursor.at);
      } catch (const Error&) {
        zip_error_set(&cursor.error, ZIP_ER_READ, 0);
        return -1;
      }
      cursor.at += count;
      return static_cast<zip_int64_t>(count);
    }
    case ZIP_SOURCE_SEEK: {
      const zip_int64_t to =
          zip_source_seek_compute_offset(cursor.at, size, data, bytes, &cursor.error);
      if (to < 0) return -1;
      cursor.at = static_cast<std::uint64_t>(to);
      return 0;
    }
    case ZIP_SOURCE_TELL:
      return static_cast<zip_int64_t>(cursor.at);
    case ZIP_SOURCE_STAT: {
      auto* stat = static_cast<zip_stat_t*>(data);
      zip_stat_init(stat);
      stat->size = size;
      stat->valid = ZIP_STAT_SIZE;
      return sizeof(zip_stat_t);
    }
    case ZIP_SOURCE_ERROR:
      return zip_error_to_data(&cursor.error, data, bytes);
    case ZIP_SOURCE_SUPPORTS:
      return zip_source_make_command_bitmap(
          ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT, ZIP_SOURCE_ERROR,
          ZIP_SOURCE_FREE, ZIP_SOURCE_SEEK, ZIP_SOURCE_TELL, ZIP_SOURCE_SUPPORTS, -1);
    case ZIP_SOURCE_CLOSE:
    case ZIP_SOURCE_FREE:
      return 0;
    default:
      zip_error_set(&cursor.error, ZIP_ER_OPNOTSUPP, 0);
      return -1;
  }
}

// The text of an error of libzip, which ends with it.
std::string text_of(zip_error_t& error) {
  std::string out = zip_error_strerror(&error);
  zip_error_fini(&error);
  return out;
}

// A download that was cut off has the start of an archive, but not the table at its end.
bool has_end_record(const ByteInput& input) {
  constexpr std::uint64_t kMostComment = 65535 + 22;
  const std::uint64_t bytes = std::min(input.size(), kMostComment);
  std::string tail(static_cast<std::size_t>(bytes), '\0');
  input.read(std::as_writable_bytes(std::span(tail)), input.size() - bytes);
  return tail.find("PK\5\6") != std::string::npos;
}

}  // namespace

struct TorchZip::Archive {
  explicit Archive(const ByteInput& in) : input(in), cursor{.input = &in} {
    zip_error_init(&cursor.error);
  }
  ~Archive() {
    if (zip != nullptr) zip_discard(zip);
  }

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(ExitCode::kBadCheckpoint, input.name(), ": ", detail::concat(parts...));
  }

  void open() {
    if (!has_end_record(input)) {
      refuse(
          "cut short: the archive's table of contents, which stands at its end, is missing from "
          "these ",
          input.size(), " bytes; download or copy the file again");
    }
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t* source = zip_source_function_create(serve, &cursor, &error);
    if (source == nullptr) refuse("cannot be opened: ", text_of(error));
    zip = zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error);
    if (zip == nullptr) {
      zip_source_free(source);
      if (zip_error_code_zip(&error) == ZIP_ER_EXISTS) refuse("two entries have one name");
      refuse("damaged zip archive: ", text_of(error), "; download or copy the file again");
    }
  }

  void list() {
    const zip_int64_t count = zip_get_num_entries(zip, 0);
    if (count < 0 || static_cast<std::uint64_t>(count) > kMostEntries) {
      refuse("a zip archive of ", count, " entries, at most ", kMostEntries);
    }
    for (zip_int64_t i = 0; i < count; ++i) add(static_cast<zip_uint64_t>(i));
    find_prefix();
  }

  void add(zip_uint64_t index) {
    zip_stat_t stat;
    zip_stat_init(&stat);
    constexpr zip_uint64_t kNeeded = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE |
                                     ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD |
                                     ZIP_STAT_CRC;
    if (zip_stat_index(zip, index, ZIP_FL_ENC_RAW, &stat) != 0 ||
        (stat.valid & kNeeded) != kNeeded) {
      refuse("entry ", index, " of the zip archive has no name or size");
    }
    const std::string name = stat.name;
    check_name(name, index);
    if (stat.encryption_method != ZIP_EM_NONE) refuse("entry ", shown_text(name), " is encrypted");
    const bool stored = stat.comp_method == ZIP_CM_STORE;
    if (stored && stat.comp_size != stat.size) {
      refuse("entry ", shown_text(name), " has ", stat.size, " bytes, but ", stat.comp_size,
             " in the file");
    }
    // Entries that share bytes could together be far larger than the file.
    if (stat.comp_size > input.size() - used) {
      refuse("the entries of the zip archive are larger than the file: ", shown_text(name), " has ",
             stat.comp_size, " bytes");
    }
    used += stat.comp_size;
    checksums = checksums || stat.crc != 0;
    if (!entries.emplace(name, Entry{index, stat.size, stored}).second) {
      refuse("two entries are named ", shown_text(name));
    }
  }

  // Nothing is extracted, so a path out of the archive would do no harm; but torch writes none.
  void check_name(const std::string& name, zip_uint64_t index) const {
    if (name.empty() || name.size() > kMostNameBytes) {
      refuse("entry ", index, " of the zip archive has a name of ", name.size(), " bytes");
    }
    if (name.front() == '/' || ("/" + name + "/").find("/../") != std::string::npos ||
        name.find('\\') != std::string::npos) {
      refuse("entry ", index, " of the zip archive is named ", shown_text(name),
             ", a path out of it");
    }
  }

  // All entries are under one folder, which torch names after the file.
  void find_prefix() {
    for (const auto& [name, entry] : entries) {
      const std::size_t slash = name.find('/');
      if (slash == std::string::npos || name.compare(slash + 1, name.npos, kPickle) != 0) continue;
      if (!prefix.empty()) refuse("two pickles: ", shown_text(prefix), " and ", shown_text(name));
      prefix = name.substr(0, slash + 1);
    }
    if (prefix.empty()) {
      refuse("a zip archive, but not one of torch.save: it has no ", kPickle,
             entries.empty() ? "" : "; its first entry is " + shown_text(entries.begin()->first));
    }
    if (entries.contains(prefix + "constants.pkl")) {
      refuse(
          "a TorchScript program, want weights: load it in Python with torch.jit.load and save "
          "its state_dict() with torch.save");
    }
  }

  void read(const std::string& name, std::span<std::byte> out) const {
    const auto found = entries.find(name);
    if (found == entries.end()) refuse("no entry ", shown_text(name));
    const Entry& entry = found->second;
    if (!entry.stored) refuse("entry ", shown_text(name), " is compressed; torch.save stores");
    if (out.size() != entry.bytes) fail(ExitCode::kInternal, "zip entry read in part");
    zip_file_t* file = zip_fopen_index(zip, entry.index, 0);
    if (file == nullptr) refuse("entry ", shown_text(name), ": ", zip_strerror(zip));
    std::size_t done = 0;
    zip_int64_t step = 0;
    while (done < out.size() &&
           (step = zip_fread(file, out.data() + done, out.size() - done)) > 0) {
      done += static_cast<std::size_t>(step);
    }
    // One byte more than there are: libzip compares the checksum when it meets the end.
    if (std::byte beyond{}; checksums && step >= 0) {
      step = zip_fread(file, &beyond, 1);
      if (step > 0) ++done;
    }
    const std::string reason = step < 0 ? zip_file_strerror(file) : "";
    zip_fclose(file);
    if (!reason.empty() || done != out.size()) {
      refuse("entry ", shown_text(name), " is damaged (", reason.empty() ? "wrong size" : reason,
             "); download or copy the file again");
    }
  }

  const ByteInput& input;
  Cursor cursor;
  zip_t* zip = nullptr;
  std::map<std::string, Entry> entries;
  std::string prefix;  // "archive/"
  std::uint64_t used = 0;
  // torch.serialization.set_crc32_options(False) leaves 0 for each; damage hardly does to all.
  bool checksums = false;
};

TorchZip::TorchZip(const ByteInput& input) : archive_(std::make_unique<Archive>(input)) {
  archive_->open();
  archive_->list();
}

TorchZip::~TorchZip() = default;

std::int64_t TorchZip::bytes(const std::string& key) const {
  const auto found = archive_->entries.find(archive_->prefix + "data/" + key);
  return found == archive_->entries.end() ? -1 : static_cast<std::int64_t>(found->second.bytes);
}

void TorchZip::read(const std::string& key, std::span<std::byte> out) const {
  archive_->read(archive_->prefix + "data/" + key, out);
}

bool TorchZip::has_checksums() const {
  return archive_->checksums;
}

std::uint64_t TorchZip::total_bytes() const {
  std::uint64_t total = 0;
  for (const auto& [name, entry] : archive_->entries) {
    if (entry.stored) total += entry.bytes;
  }
  return total;
}

std::vector<std::byte> TorchZip::pickle(std::uint64_t most) const {
  const std::string name = archive_->prefix + std::string(kPickle);
  const Entry& entry = archive_->entries.at(name);
  if (entry.bytes > most) {
    archive_->refuse("its pickle has ", entry.bytes, " bytes, at most ", most);
  }
  if (!entry.stored) archive_->refuse("entry ", shown_text(name), " is compressed");
  std::vector<std::byte> out(static_cast<std::size_t>(entry.bytes));
  archive_->read(name, out);
  return out;
}

std::string TorchZip::text(const std::string& name, std::uint64_t most) const {
  const auto found = archive_->entries.find(archive_->prefix + name);
  if (found == archive_->entries.end()) return "";
  if (found->second.bytes > most) {
    archive_->refuse("its entry ", name, " has ", found->second.bytes, " bytes, at most ", most);
  }
  std::string out(static_cast<std::size_t>(found->second.bytes), '\0');
  archive_->read(found->first, std::as_writable_bytes(std::span(out)));
  return out;
}

bool TorchZip::big_endian() const {
  const std::string order = text("byteorder", 16);
  if (order != "" && order != "little" && order != "big") {
    archive_->refuse("its entry byteorder is '", shown_text(order), "', want little or big");
  }
  return order == "big";
}

}  // namespace onpa::io
