// Which tracks stay, and on which side of the split.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>
#include <system_error>

#include "apps/study/prepare_parts.h"
#include "apps/support/suggest.h"
#include "data/id_index.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;

bool is_audio(const fs::path& path) {
  static const std::set<std::string> kExtensions = {".mp3", ".wav", ".flac",
                                                    ".ogg", ".m4a", ".opus"};
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return kExtensions.contains(extension);
}

std::map<std::string, std::int64_t> count_genres(const std::vector<data::Track>& tracks) {
  std::map<std::string, std::int64_t> counts;
  for (const data::Track& track : tracks) {
    for (const std::string& genre : track.genres()) ++counts[genre];
  }
  return counts;
}

// Takes the genres that are not `used` from the tracks' lists, and drops tracks without any left.
std::int64_t keep_genres(std::vector<data::Track>& tracks, const std::set<std::string>& used) {
  return std::erase_if(tracks, [&](data::Track& track) {
    std::string left;
    for (const std::string& genre : track.genres()) {
      if (used.contains(genre)) left += (left.empty() ? "" : ";") + genre;
    }
    track.genre = left;
    return left.empty();
  });
}

void keep_named_genres(std::vector<data::Track>& tracks, const std::vector<std::string>& names,
                       Counts& counts) {
  std::vector<std::string> there;
  for (const auto& [genre, n] : count_genres(tracks)) there.push_back(genre);
  for (const std::string& name : names) {
    if (std::binary_search(there.begin(), there.end(), name)) continue;
    fail(ExitCode::kConfig, "genres: no track of \"", name, "\"", suggestion(name, there));
  }
  counts.dropped_tracks["of none of the genres asked for"] =
      keep_genres(tracks, {names.begin(), names.end()});
}

void keep_large_genres(std::vector<data::Track>& tracks, std::int64_t least, Counts& counts) {
  std::set<std::string> used;
  for (const auto& [genre, n] : count_genres(tracks)) {
    if (n >= least) {
      used.insert(genre);
    } else {
      counts.dropped_genres[genre] = n;
    }
  }
  counts.dropped_tracks["of no genre that is large enough"] = keep_genres(tracks, used);
}

}  // namespace

void match_audio(std::vector<data::Track>& tracks, const std::string& root,
                 const std::vector<std::pair<std::size_t, std::size_t>>& repeats, Counts& counts) {
  if (!fs::is_directory(root)) {
    fail(ExitCode::kInputMissing, root, ": no such folder of audio files");
  }
  data::IdIndex ids([&](std::size_t i) -> std::string_view { return tracks[i].id; });
  for (std::size_t i = 0; i < tracks.size(); ++i) ids.find_or_add(tracks[i].id, i);
  std::set<std::size_t> several;
  std::error_code error;
  auto it =
      fs::recursive_directory_iterator(root, fs::directory_options::skip_permission_denied, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    std::error_code ignored;
    if (!is_audio(it->path()) || !it->is_regular_file(ignored)) continue;
    const std::size_t track = ids.find(it->path().stem().string());
    if (track == ids.kNone) {
      ++counts.unused_audio;
      continue;
    }
    const std::string relative = it->path().lexically_relative(root).string();
    std::string& audio = tracks[track].audio;
    if (!audio.empty()) several.insert(track);
    if (audio.empty() || relative < audio) audio = relative;
  }
  if (error) fail(ExitCode::kIo, root, ": cannot list: ", error.message());
  counts.several_audio = std::ssize(several);
  for (const auto& [repeat, first] : repeats) tracks[repeat].audio = tracks[first].audio;
  counts.dropped_tracks[kNoAudio] =
      std::erase_if(tracks, [](const data::Track& track) { return track.audio.empty(); });
}

void filter_tracks(std::vector<data::Track>& tracks, const PrepareArgs& args, Counts& counts) {
  counts.dropped_tracks["popularity below the minimum"] = std::erase_if(
      tracks, [&](const data::Track& track) { return track.popularity < args.min_popularity; });
  if (tracks.empty()) return;
  if (!args.genres.empty()) keep_named_genres(tracks, args.genres, counts);
  if (args.min_genre > 0) keep_large_genres(tracks, args.min_genre, counts);
}

SplitReport split_tracks(std::vector<data::Track>& tracks, const PrepareArgs& args,
                         const SplitRule& split) {
  if (split.kind == SplitKind::kGiven) return {};
  if (split.kind != SplitKind::kArtist && split.kind != SplitKind::kFirstArtist) {
    data::assign_split(tracks, args.train_fraction, args.seed);
    return {};
  }
  data::GroupSplit done;
  try {
    done = data::assign_group_split(tracks, args.train_fraction, args.seed);
  } catch (const Error& e) {
    if (split.kind == SplitKind::kFirstArtist) throw;
    fail(e.code(), args.csv, ": ", e.what(),
         "; a group is artists linked by common tracks, and --split first-artist counts only the "
         "first artist of each track");
  }
  return {.groups = done.groups,
          .largest_group = static_cast<double>(done.largest) / static_cast<double>(tracks.size()),
          .groups_kept_in_train = done.kept_in_train};
}

}  // namespace onpa::apps
