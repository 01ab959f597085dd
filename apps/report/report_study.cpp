#include "apps/report/report_study.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <iterator>

#include "apps/report/report_text.h"
#include "kernels/error.h"

namespace onpa::apps::report {
namespace {

using Json = nlohmann::ordered_json;

// A value in the file and where it is, for errors.
class Node {
 public:
  Node(const Json& json, std::string place) : json_(json), place_(std::move(place)) {}

  bool is_null() const { return json_.is_null(); }
  const Json& json() const { return json_; }

  Node at(const std::string& key) const {
    want(json_.is_object(), "an object");
    const auto found = json_.find(key);
    if (found == json_.end()) {
      fail(ExitCode::kBadData, place_, ": no key '", key, "'");
    }
    return {*found, place_ + "." + key};
  }
  bool has(const std::string& key) const {
    want(json_.is_object(), "an object");
    return json_.contains(key);
  }
  double number() const {
    if (json_.is_null()) return kUnknown;
    want(json_.is_number(), "a number or null");
    return json_.get<double>();
  }
  double number(const std::string& key) const { return at(key).number(); }
  double known_number(const std::string& key) const {
    const Node node = at(key);
    node.want(node.json_.is_number(), "a number");
    return node.json_.get<double>();
  }
  std::string text() const {
    want(json_.is_string(), "text");
    return json_.get<std::string>();
  }
  std::string text(const std::string& key) const { return at(key).text(); }
  // Text of something that is shown as it is, whatever it is.
  std::string shown() const {
    if (json_.is_null()) return "";
    if (json_.is_string()) return json_.get<std::string>();
    return json_.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  std::vector<Node> items() const {
    std::vector<Node> out;
    if (json_.is_null()) return out;
    want(json_.is_array(), "a list");
    for (std::size_t i = 0; i < json_.size(); ++i) {
      out.push_back({json_[i], place_ + "[" + std::to_string(i) + "]"});
    }
    return out;
  }
  std::vector<std::pair<std::string, Node>> entries() const {
    std::vector<std::pair<std::string, Node>> out;
    if (json_.is_null()) return out;
    want(json_.is_object(), "an object");
    for (const auto& [key, value] : json_.items()) {
      out.push_back({key, Node(value, place_ + "." + key)});
    }
    return out;
  }
  std::vector<std::string> texts() const {
    std::vector<std::string> out;
    for (const Node& item : items()) out.push_back(item.text());
    return out;
  }
  void want(bool holds, const std::string& what) const {
    if (holds) return;
    fail(ExitCode::kBadData, place_, ": got ",
         shortened(json_.dump(-1, ' ', false, Json::error_handler_t::replace), 40), ", want ",
         what);
  }

 private:
  const Json& json_;
  std::string place_;
};

Errors errors_of(const Node& node) {
  if (node.is_null()) return {};
  return {.n = node.number("n"),
          .rmse = node.number("rmse"),
          .mae = node.number("mae"),
          .r2 = node.number("r2")};
}

Interval interval_of(const Node& node) {
  if (node.is_null()) return {};
  const std::vector<Node> ends = node.items();
  node.want(ends.size() == 2, "[low, high]");
  return {ends[0].number(), ends[1].number()};
}

Balanced balanced_of(const Node& node) {
  if (node.is_null()) return {};
  return {.bin_width = node.number("bin_width"),
          .bins = node.number("bins"),
          .rmse = node.number("rmse"),
          .mae = node.number("mae")};
}

std::vector<Cell::CurvePoint> curve_of(const Node& node) {
  std::vector<Cell::CurvePoint> out;
  for (const Node& item : node.items()) {
    const std::vector<Node> values = item.items();
    item.want(values.size() >= 2, "[epoch, value]");
    const Cell::CurvePoint point{values[0].number(), values[1].number()};
    if (std::isfinite(point.epoch) && std::isfinite(point.value)) out.push_back(point);
  }
  return out;
}

Cell cell_of(const Node& node) {
  Cell cell;
  cell.run = node.at("run").shown();
  const std::string status = node.text("status");
  node.at("status").want(status == "done" || status == "failed", "done or failed");
  cell.done = status == "done";
  if (!cell.done) return cell;
  cell.errors = errors_of(node.at("metrics"));
  cell.mae_interval = interval_of(node.at("mae_interval"));
  cell.rmse_interval = interval_of(node.at("rmse_interval"));
  cell.balanced = balanced_of(node.at("bin_balanced"));
  cell.bias = node.number("bias");
  cell.rank = node.number("rank");
  cell.parameters = node.number("parameters");
  cell.epochs = node.number("epochs");
  cell.steps = node.number("steps");
  cell.train_seconds = node.number("train_seconds");
  cell.hours_per_epoch = node.number("hours_per_epoch");
  cell.peak_memory_bytes = node.number("peak_memory_bytes");
  cell.energy_joules = node.number("energy_joules");
  cell.loss = curve_of(node.at("loss_curve"));
  cell.test_rmse = curve_of(node.at("eval_curve"));
  return cell;
}

std::optional<Difference> difference_of(const Node& node) {
  if (node.is_null()) return {};
  Difference out{.mae = node.number("mae"),
                 .interval = {node.number("low"), node.number("high")},
                 .p = kUnknown};
  if (node.has("wilcoxon") && !node.at("wilcoxon").is_null()) {
    out.p = node.at("wilcoxon").number("p");
  }
  return out;
}

Scope scope_of(const Node& node) {
  Scope scope;
  scope.name = node.text("name");
  scope.tracks = node.number("tracks");
  scope.train = node.number("train");
  scope.train_kept = node.number("train_kept");
  scope.test = node.number("test");
  for (const auto& [model, cell] : node.at("models").entries()) {
    if (!cell.is_null()) scope.models[model] = cell_of(cell);
  }
  for (const auto& [name, errors] : node.at("baselines").entries()) {
    scope.baselines[name] = errors_of(errors);
  }
  scope.difference = difference_of(node.at("difference"));
  return scope;
}

Variant variant_of(const Node& node) {
  return {.name = node.text("name"),
          .model = node.text("model"),
          .settings = node.at("settings").texts(),
          .cell = cell_of(node.at("cell")),
          .difference = difference_of(node.at("difference"))};
}

Peer peer_of(const Node& node) {
  return {.name = node.text("name"),
          .library = node.at("library").shown(),
          .settings = node.at("settings").shown(),
          .seconds = node.number("seconds"),
          .errors = errors_of(node.at("metrics")),
          .mae_interval = interval_of(node.at("mae_interval")),
          .balanced = balanced_of(node.at("bin_balanced"))};
}

TrueByPredicted counts_of(const Node& node) {
  TrueByPredicted out;
  out.low = node.known_number("low");
  out.high = node.known_number("high");
  node.want(out.low < out.high, "low below high");
  for (const Node& row : node.at("counts").items()) {
    out.counts.emplace_back();
    for (const Node& count : row.items()) out.counts.back().push_back(count.number());
  }
  for (const std::vector<double>& row : out.counts) {
    node.at("counts").want(row.size() == out.counts.size(), "as many columns as rows");
  }
  return out;
}

ErrorBin bin_of(const Node& node) {
  ErrorBin bin{.low = node.known_number("low"),
               .high = node.known_number("high"),
               .n = node.number("n"),
               .mae = {}};
  for (const auto& [model, mae] : node.at("mae").entries()) bin.mae[model] = mae.number();
  return bin;
}

void read_data_and_options(const Node& root, Study& study) {
  for (const auto& [key, value] : root.at("made").entries()) study.made[key] = value.shown();
  study.command = root.at("command").texts();
  const Node data = root.at("data");
  study.data_folder = data.at("folder").shown();
  study.data_hash = data.at("hash").shown();
  const Node card = data.at("card");
  study.card = card.json();
  if (card.json().is_object() && card.has("target")) {
    const Node target = card.at("target");
    study.target_map = {.low = target.known_number("low"), .high = target.known_number("high")};
    target.want(study.target_map.low < study.target_map.high, "low below high");
  }
  const Node options = root.at("options");
  study.seed = options.number("seed");
  study.min_tracks = options.number("min_tracks");
  study.models = options.at("models").texts();
  study.from = options.at("from").shown();
  if (options.has("init_from")) study.init_from = options.at("init_from").shown();
  study.confidence = options.number("confidence");
  study.draws = options.number("draws");
  for (const auto& [model, toml] : root.at("configs").entries()) {
    study.configs[model] = toml.shown();
  }
}

void read_tracks(const Node& root, Study& study) {
  for (const auto& [model, tracks] : root.at("worst").entries()) {
    for (const Node& track : tracks.items()) {
      study.worst[model].push_back({.id = track.text("id"),
                                    .genre = track.at("genre").shown(),
                                    .target = track.number("target"),
                                    .prediction = track.number("prediction")});
    }
  }
  for (const Node& track : root.at("slowest").items()) {
    study.slowest.push_back({.id = track.text("id"),
                             .audio = track.at("audio").shown(),
                             .seconds = track.number("seconds")});
  }
}

void read_results(const Node& root, Study& study) {
  for (const Node& node : root.at("scopes").items()) study.scopes.push_back(scope_of(node));
  root.at("scopes").want(!study.scopes.empty(), "at least the scope of all data");
  for (const Node& node : root.at("variants").items()) study.variants.push_back(variant_of(node));
  for (const Node& node : root.at("peers").items()) study.peers.push_back(peer_of(node));
  if (const Node node = root.at("rank_correlation"); !node.is_null()) {
    study.rank_correlation =
        Difference{.mae = node.number("spearman"), .interval = {}, .p = node.number("p")};
    study.ranked_rows = node.number("n");
  }
  for (const Node& node : root.at("error_by_bin").items()) {
    study.error_bins.push_back(bin_of(node));
  }
  for (const auto& [model, node] : root.at("predicted_true").entries()) {
    if (!node.is_null()) study.true_by_predicted[model] = counts_of(node);
  }
  if (const Node node = root.at("floors"); !node.is_null()) {
    for (const std::string model : {"passt", "dense"}) {
      study.floors[model] = {.rmse = node.number(model), .mae = node.number(model + "_mae")};
    }
  }
  for (const Node& node : root.at("failed").items()) {
    study.failed.push_back({.cell = node.text("cell"),
                            .exit_code = node.number("exit_code"),
                            .last_lines = node.at("last_lines").texts()});
  }
}

}  // namespace

const Cell* Scope::done(const std::string& model) const {
  const auto found = models.find(model);
  return found == models.end() || !found->second.done ? nullptr : &found->second;
}

std::string Study::unit() const {
  return fmt::format("popularity / {:g}", target_map.high - target_map.low);
}

std::string Study::level() const {
  if (!std::isfinite(confidence)) return "95\u00a0%";
  const double percent = 100 * confidence;
  return fixed(percent, std::abs(percent - std::round(percent)) < 1e-9 ? 0 : 1) + "\u00a0%";
}

std::string model_name(const std::string& model) {
  return model == "passt" ? "PaSST" : model == "dense" ? "Dense" : model;
}

std::string input_of(const std::string& model) {
  return model == "passt" ? "the waveform" : model == "dense" ? "the features" : model;
}

Study parse_study(const std::string& json, const std::string& file) {
  Json parsed;
  try {
    parsed = Json::parse(json);
  } catch (const Json::exception& error) {
    fail(ExitCode::kBadData, file, ": no JSON: ", error.what());
  }
  const Node root(parsed, file);
  const double version = root.known_number("version");
  root.at("version").want(version == 1, "1, the version that this onpa reads");
  Study study;
  read_data_and_options(root, study);
  read_results(root, study);
  read_tracks(root, study);
  return study;
}

Study load_study(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "study.json";
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    fail(ExitCode::kInputMissing, path.string(), ": cannot be read; onpa study makes it");
  }
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return parse_study(text, path.string());
}

}  // namespace onpa::apps::report
