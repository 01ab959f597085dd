#include "apps/training/rank_agreement.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "kernels/error.h"
#include "nn/manifest.h"

namespace onpa::apps {
namespace {

std::uint64_t number_of(const std::string& digest) {
  return std::stoull(digest, nullptr, 16);
}

std::uint64_t hash_of_bytes(const void* bytes, std::size_t count) {
  nn::Xxh3 hash;
  hash.add(bytes, count);
  return number_of(hash.digest());
}

std::uint64_t hash_of_text(const std::string& text) {
  return hash_of_bytes(text.data(), text.size());
}

std::uint64_t program_hash() {
  return number_of(nn::measure_file("/proc/self/exe").xxh3_64);
}

std::string options_text(const TrainOptions& o) {
  std::string text = "--resume " + o.resume + " --device " + o.device;
  if (!o.init_from.empty()) text += " --init-from --init-set " + o.init_set;
  if (o.profile) text += fmt::format(" --profile steps={}:{}", o.profile->begin, o.profile->end);
  return text;
}

[[noreturn]] void refuse(const std::vector<int>& odd, const std::string& what) {
  fail(ExitCode::kConfig, name_ranks(odd), odd.size() > 1 ? " differ" : " differs",
       " from the other ranks in ", what);
}

// Settings of the odd ranks against those of a rank that is none of them.
std::string changed_settings(const Ranks& ranks, const Config& config,
                             const std::vector<int>& odd) {
  int usual = 0;
  while (std::find(odd.begin(), odd.end(), usual) != odd.end()) ++usual;
  const auto settings_of_rank = [&](int rank) {
    const std::string text = ranks.broadcast_text(to_toml(config), rank);
    return parse_toml(config.model.kind, text, "settings of rank " + std::to_string(rank));
  };
  const Config theirs = settings_of_rank(odd.front()), most = settings_of_rank(usual);
  return fmt::format("{}", fmt::join(changed_keys(theirs, most), ", "));
}

}  // namespace

std::vector<int> odd_ranks(const std::vector<std::uint64_t>& values) {
  std::map<std::uint64_t, std::size_t> count;
  for (const std::uint64_t value : values) ++count[value];
  std::uint64_t usual = values.at(0);
  for (const auto& [value, ranks] : count) {
    if (ranks > count[usual]) usual = value;
  }
  std::vector<int> odd;
  for (std::size_t rank = 0; rank < values.size(); ++rank) {
    if (values[rank] != usual) odd.push_back(static_cast<int>(rank));
  }
  return odd;
}

std::uint64_t hash_of(const Tensor& tensor) {
  const Tensor here = tensor.to(DeviceKind::kCpu);
  return hash_of_bytes(here.bytes(), here.byte_count());
}

std::string name_ranks(const std::vector<int>& ranks) {
  return fmt::format("{} {}", ranks.size() > 1 ? "ranks" : "rank", fmt::join(ranks, ", "));
}

void check_same_job(const Ranks& ranks, const TrainOptions& options, const data::DataSet& data) {
  if (!ranks.several()) return;
  const auto odd = [&](std::uint64_t value) { return odd_ranks(ranks.all_gather(value)); };
  // The program first: another one may have other settings.
  if (ranks.processes()) {
    if (const auto other = odd(program_hash()); !other.empty()) {
      refuse(other, "the program: install one onpa on all machines");
    }
  }
  if (const auto other = odd(hash_of_text(options.config.model.kind)); !other.empty()) {
    refuse(other, "the model: passt or dense");
  }
  if (const auto other = odd(hash_of_text(to_toml(options.config))); !other.empty()) {
    refuse(other, "settings: " + changed_settings(ranks, options.config, other));
  }
  if (const auto other = odd(hash_of_text(options_text(options))); !other.empty()) {
    refuse(other, "options: --resume, --device, --init-from and --profile have to be the same");
  }
  if (const auto other = odd(number_of(data.hash)); !other.empty()) {
    refuse(other, "the data set: tracks.csv is not the same file everywhere");
  }
}

}  // namespace onpa::apps
