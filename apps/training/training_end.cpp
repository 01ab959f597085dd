// What a run leaves behind.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/support/log.h"
#include "apps/training/training_run.h"
#include "data/table.h"
#include "kernels/error.h"
#include "kernels/gemm_tuning.h"

namespace onpa::apps {
namespace {

using Row = std::vector<std::string>;

// The rows of all ranks.
std::vector<Row> gathered(const Ranks& ranks, const std::vector<Row>& mine) {
  std::vector<Row> all;
  // In a form that takes paths that are no UTF-8.
  const std::vector<std::uint8_t> bytes = nlohmann::json::to_cbor(nlohmann::json(mine));
  for (const std::string& text : ranks.all_gather_text({bytes.begin(), bytes.end()})) {
    for (const auto& row : nlohmann::json::from_cbor(text)) all.push_back(row.get<Row>());
  }
  return all;
}

// Tracks that any rank could not use: id, path, reason.
std::vector<Row> all_bad_tracks(const Ranks& ranks, const TrainTask& task,
                                const data::DataSet& data) {
  std::vector<Row> mine;
  for (const data::BadTrack& track : task.bad_tracks()) {
    mine.push_back({data.tracks[static_cast<std::size_t>(track.row)].id, track.path, track.reason});
  }
  return gathered(ranks, mine);
}

// Those in the file of an earlier start.
std::vector<Row> rows_of(const std::filesystem::path& file) {
  std::vector<Row> rows;
  const data::Table old = data::Table::read_csv(file);
  for (std::int64_t r = 0; r < old.rows() && old.columns().size() == 3; ++r) {
    rows.push_back(
        {std::string(old.cell(r, 0)), std::string(old.cell(r, 1)), std::string(old.cell(r, 2))});
  }
  return rows;
}

}  // namespace

// RUN/bad_tracks.csv: every track that could not be used, those of earlier starts included. False
// if it cannot be written.
bool TrainingRun::write_bad_tracks() {
  const std::vector<Row> bad = all_bad_tracks(ranks_, *task_, data_);
  if (bad.empty() || !ranks_.first()) return true;
  const std::filesystem::path file = run_->folder() / "bad_tracks.csv";
  std::vector<Row> rows;
  if (state_.step > 0 && std::filesystem::exists(file)) rows = rows_of(file);
  for (const Row& track : bad) {
    const bool known =
        std::any_of(rows.begin(), rows.end(), [&](const Row& row) { return row[0] == track[0]; });
    if (!known) rows.push_back(track);
  }
  std::string text = data::csv_line({"id", "path", "reason"});
  for (const Row& row : rows) text += data::csv_line(row);
  try {
    run_->write_text("bad_tracks.csv", text);
  } catch (const Error& error) {
    if (!is_disk_error(error)) throw;
    spdlog::error("{} tracks could not be read and were left out, the first {}: {}; {}",
                  rows.size(), rows.front()[1], rows.front()[2], error.what());
    return false;
  }
  spdlog::warn("{} tracks could not be read and were left out; see {}", rows.size(), file.string());
  return true;
}

// RUN/slowest_tracks.csv: the ten tracks that took longest to decode. It is for people to look at:
// without room for it nothing is wrong.
void TrainingRun::write_slowest_tracks() {
  std::vector<Row> mine;
  for (const data::DecodeTime& time : task_->slowest_tracks()) {
    const data::Track& track = data_.tracks[static_cast<std::size_t>(time.row)];
    mine.push_back({track.id, track.audio, fmt::format("{:.6f}", time.seconds)});
  }
  std::vector<Row> rows = gathered(ranks_, mine);
  if (rows.empty() || !ranks_.first()) return;
  const std::filesystem::path file = run_->folder() / "slowest_tracks.csv";
  if (std::filesystem::exists(file)) {
    for (Row& row : rows_of(file)) rows.push_back(std::move(row));
  }
  constexpr std::size_t kListed = 10;
  const auto seconds = [](const Row& row) { return std::stod(row[2]); };
  std::ranges::stable_sort(rows, std::greater(), seconds);
  std::set<std::string> ids;
  std::erase_if(rows, [&](const Row& row) { return !ids.insert(row[0]).second; });
  rows.resize(std::min(rows.size(), kListed));
  std::string text = data::csv_line({"id", "audio", "seconds"});
  for (const Row& row : rows) text += data::csv_line(row);
  try {
    run_->write_text("slowest_tracks.csv", text);
  } catch (const Error& error) {
    if (!is_disk_error(error)) throw;
    spdlog::warn("{}", error.what());
  }
}

int TrainingRun::finish() {
  progress_.clear();
  bool stopped = agree_to_stop() && !done();
  if (!stopped && state_.evaluated_step != state_.step && state_.step > 0) stopped = !evaluate();
  note_progress();
  if (changed_) save();
  report_profile();
  const bool written = write_bad_tracks();
  write_slowest_tracks();
  int code = 0;
  ranks_.on_first([&] { code = close_files(stopped, written); });
  return static_cast<int>(ranks_.broadcast(code));
}

// The exit code; `written`: all that was to be written so far is.
int TrainingRun::close_files(bool stopped, bool written) {
  if (profile_failed_) {
    spdlog::error("the profile could not be written to {}", run_->folder().string());
    written = false;
  }
  if (save_failed_) {
    spdlog::error("the last checkpoint could not be written to {}", run_->checkpoints().string());
    written = false;
  }
  if (config_.train.gemm_tuning) {
    for (const std::string& choice : kernels::gemm_choices()) spdlog::info("{}", choice);
  }
  flush_log(true);  // after the save, which may have made room
  if (const std::string problem = log_problem(); !problem.empty()) {
    spdlog::error("not all metrics are written: {}", problem);
    written = false;
  }
  if (!written) {
    spdlog::info("ended at step {}; with room on the disk the same command goes on", state_.step);
    return static_cast<int>(ExitCode::kIo);
  }
  if (stopped) {
    spdlog::info("stopped at step {}; the same command goes on from there", state_.step);
    return static_cast<int>(ExitCode::kStopped);
  }
  if (state_.best_rmse > 0) {
    spdlog::info(
        "lowest {0} RMSE {1:.4f}, at step {2}; picked on the {0} {3}, so no unbiased estimate",
        task_->evaluated(), state_.best_rmse, state_.best_step,
        config_.data.validation > 0 ? "tracks" : "split");
  }
  spdlog::info("{} steps, {:.3g} h an epoch, {:.3g} samples/s, {:.3g} min of training", state_.step,
               state_.hours_per_epoch,
               static_cast<double>(state_.samples) / std::max(state_.train_seconds, 1e-9),
               state_.train_seconds / 60);
  spdlog::info("checkpoint {}, the newest; evaluate it with: onpa eval --run {}",
               (run_->checkpoints() / "last").string(), run_->folder().string());
  return 0;
}

}  // namespace onpa::apps
