#include "data/loader_bad.h"

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/error.h"

namespace onpa::data {
namespace {

constexpr std::size_t kReasonsShown = 5;

// Ranks exchange numbers only: a text is its length and its bytes.
void append_text(std::vector<double>& out, const std::string& text) {
  out.push_back(static_cast<double>(text.size()));
  for (const char c : text) out.push_back(static_cast<unsigned char>(c));
}

class Reader {
 public:
  explicit Reader(const std::vector<double>& values) : values_(values) {}
  bool at_end() const { return next_ == values_.size(); }
  std::int64_t number() {
    ONPA_CHECK(next_ < values_.size(), "loader: a list of bad tracks is cut off");
    return static_cast<std::int64_t>(values_[next_++]);
  }
  std::string text() {
    std::string out(static_cast<std::size_t>(number()), '\0');
    for (char& c : out) c = static_cast<char>(static_cast<unsigned char>(number()));
    return out;
  }

 private:
  const std::vector<double>& values_;
  std::size_t next_ = 0;
};

}  // namespace

std::vector<MetBad> gather_bad(const Shard& shard, const std::vector<MetBad>& met) {
  std::vector<double> told;
  for (const MetBad& bad : met) {
    told.push_back(static_cast<double>(bad.position));
    told.push_back(static_cast<double>(bad.track.row));
    append_text(told, bad.track.path);
    append_text(told, bad.track.reason);
  }
  const std::vector<double> heard = shard.all_gather(told);
  std::vector<MetBad> all;
  for (Reader reader(heard); !reader.at_end();) {
    MetBad& bad = all.emplace_back();
    bad.position = reader.number();
    bad.track.row = reader.number();
    bad.track.path = reader.text();
    bad.track.reason = reader.text();
  }
  std::ranges::stable_sort(all, {}, &MetBad::position);
  return all;
}

void BadList::note(std::vector<BadTrack>&& met) {
  for (BadTrack& track : met) {
    if (known_.insert(track.row).second) tracks_.push_back(std::move(track));
  }
  check();
}

void BadList::check() const {
  const double limit = max_fraction_ * static_cast<double>(rows_);
  if (static_cast<double>(tracks_.size()) <= limit) return;
  std::string reasons;
  for (std::size_t i = 0; i < std::min(tracks_.size(), kReasonsShown); ++i) {
    reasons += "\n  " + tracks_[i].reason;
  }
  if (tracks_.size() > kReasonsShown) reasons += "\n  ...";
  fail(ExitCode::kBadData, "loader: ", tracks_.size(), " of ", rows_,
       " tracks cannot be used, more than the allowed ", 100 * max_fraction_, " %:", reasons);
}

}  // namespace onpa::data
