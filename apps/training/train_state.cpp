#include "apps/training/train_state.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <unordered_map>

#include "kernels/error.h"

namespace onpa::apps {
namespace {

// What a reader of the model card must know before trusting a test error.
std::string selection_of(const Config& config) {
  const std::string used = "; eval, predict and embed use a run's newest checkpoint; ";
  if (config.data.validation > 0) {
    return used + "checkpoints/best is picked on the tracks that data.validation holds out";
  }
  return used + "there is no validation split, and checkpoints/best is picked on the test split";
}

constexpr const char* kStateFile = "state.json";
constexpr const char* kConfigFile = "config.toml";

// The slots of a flat buffer: all, or of a moment those that learn.
std::span<const FlatSlot> slots_of(const FlatParams& params, const Tensor& buffer) {
  return buffer.numel() == params.numel() ? params.slots() : params.learning_slots();
}

// Every slot of a flat buffer by its parameter's name, after `prefix`; copies if it is on the GPU.
void append_views(const FlatParams& params, const Tensor& buffer, const std::string& prefix,
                  io::NamedTensors& out) {
  const Tensor here = buffer.to(DeviceKind::kCpu);
  for (const FlatSlot& slot : slots_of(params, buffer)) {
    out.emplace_back(prefix + slot.name, params.view(here, slot));
  }
}

using Sources = std::unordered_map<std::string, Tensor>;

Sources by_name(const io::NamedTensors& tensors) {
  return {tensors.begin(), tensors.end()};
}

void check_views(std::span<const FlatSlot> slots, const std::string& prefix, const Sources& sources,
                 bool may_lack = false) {
  for (const FlatSlot& slot : slots) {
    const auto found = sources.find(prefix + slot.name);
    if (found == sources.end()) {
      if (may_lack) continue;
      fail(ExitCode::kBadCheckpoint, "the checkpoint has no tensor ", prefix, slot.name);
    }
    if (!(found->second.shape() == slot.shape) || found->second.dtype() != DType::kF32) {
      fail(ExitCode::kBadCheckpoint, "the checkpoint's ", prefix, slot.name, " is ",
           name_of(found->second.dtype()), " ", found->second.shape(), ", want f32 ", slot.shape);
    }
  }
}

void copy_views(const FlatParams& params, const Tensor& buffer, const std::string& prefix,
                const Sources& sources) {
  for (const FlatSlot& slot : slots_of(params, buffer)) {
    const auto found = sources.find(prefix + slot.name);
    if (found != sources.end()) params.view(buffer, slot).copy_from(found->second);
  }
}

const io::NamedTensors& file_of(const nn::CheckpointContent& content, const std::string& name) {
  const auto found = content.tensors.find(name);
  if (found == content.tensors.end()) {
    fail(ExitCode::kBadCheckpoint, "the checkpoint has no ", name, ".safetensors");
  }
  return found->second;
}

std::int64_t count_of(const nn::CheckpointContent& content, const std::string& file,
                      const std::string& key) {
  try {
    return std::stoll(content.metadata.at(file).at(key));
  } catch (const std::logic_error&) {
    fail(ExitCode::kBadCheckpoint, "the checkpoint's ", file, ".safetensors has no ", key);
  }
}

}  // namespace

std::string TrainState::to_json() const {
  const nlohmann::ordered_json json = {
      {"step", step},
      {"epoch", epoch},
      {"cursor", cursor},
      {"samples", samples},
      {"nonfinite_run", nonfinite_run},
      {"nonfinite_total", nonfinite_total},
      {"epoch_first_step", epoch_first_step},
      {"epoch_closed", epoch_closed},
      {"evaluated_step", evaluated_step},
      {"train_seconds", train_seconds},
      {"best_rmse", best_rmse},
      {"best_step", best_step},
      {"hours_per_epoch", hours_per_epoch},
      {"line_steps", line_steps},
      {"line_loss", line_loss},  // null if a loss was not finite
      {"data", data},
      {"data_hash", data_hash},
      {"start", start ? nlohmann::json(*start) : nlohmann::json(nullptr)},
  };
  // A folder's name may be anything but UTF-8.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

TrainState TrainState::from_json(const std::string& text) {
  TrainState s;
  try {
    const auto json = nlohmann::json::parse(text);
    const auto count = [&](const char* key, auto& value) {
      // A number with a fraction or an exponent may not fit.
      if (!json.at(key).is_number_integer()) {
        fail(ExitCode::kBadCheckpoint, kStateFile, ": ", key, " is ", json.at(key).dump(),
             ", want a whole number");
      }
      json.at(key).get_to(value);
    };
    count("step", s.step);
    count("epoch", s.epoch);
    count("cursor", s.cursor);
    count("samples", s.samples);
    count("nonfinite_run", s.nonfinite_run);
    count("nonfinite_total", s.nonfinite_total);
    count("epoch_first_step", s.epoch_first_step);
    json.at("epoch_closed").get_to(s.epoch_closed);
    count("evaluated_step", s.evaluated_step);
    json.at("train_seconds").get_to(s.train_seconds);
    json.at("best_rmse").get_to(s.best_rmse);
    count("best_step", s.best_step);
    json.at("hours_per_epoch").get_to(s.hours_per_epoch);
    if (json.contains("line_steps")) {  // a checkpoint of version 0.1.0 may lack it
      count("line_steps", s.line_steps);
      const auto& loss = json.at("line_loss");
      s.line_loss = loss.is_null() ? std::numeric_limits<double>::quiet_NaN() : loss.get<double>();
    }
    json.at("data").get_to(s.data);
    json.at("data_hash").get_to(s.data_hash);
    if (json.contains("start") && !json["start"].is_null()) {
      s.start = json["start"].get<std::string>();
    }
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::kBadCheckpoint, kStateFile, ": ", error.what());
  }
  return s;
}

nn::CheckpointContent make_checkpoint(const TrainState& state, const TrainParts& parts,
                                      const Moments& moments, const ModelCard& card,
                                      const Config& config) {
  nn::CheckpointContent content;
  content.step = state.step;
  append_views(parts.params, parts.params.data(), "", content.tensors["model"]);
  content.metadata["model"] = card.metadata();
  content.metadata["model"]["weights"] =
      "as of step " + std::to_string(state.step) + selection_of(config);
  io::NamedTensors& optim = content.tensors["optim"];
  for (const auto& [name, buffer] : moments) {
    append_views(parts.params, buffer, name + ".", optim);
  }
  content.metadata["optim"]["step_count"] = std::to_string(parts.optimizer.step_count());
  if (parts.average && parts.average->count() > 0) {
    append_views(parts.params, parts.average->data(), "", content.tensors["swa"]);
    content.metadata["swa"] = card.metadata();
    content.metadata["swa"]["weights"] =
        "average as of step " + std::to_string(state.step) + selection_of(config);
    content.metadata["swa"]["average.count"] = std::to_string(parts.average->count());
  }
  content.text[kStateFile] = state.to_json();
  content.text[kConfigFile] = to_toml(config);
  return content;
}

TrainState restore_checkpoint(const nn::CheckpointContent& content, const TrainParts& parts,
                              const Moments& moments, NewMoments missing) {
  const auto text = content.text.find(kStateFile);
  if (text == content.text.end()) {
    fail(ExitCode::kBadCheckpoint, "the checkpoint has no ", kStateFile);
  }
  const TrainState state = TrainState::from_json(text->second);
  const Sources model = by_name(file_of(content, "model"));
  const Sources optim = by_name(file_of(content, "optim"));
  check_views(parts.params.slots(), "", model);
  for (const auto& [name, buffer] : moments) {
    check_views(parts.params.learning_slots(), name + ".", optim, missing == NewMoments::kZero);
  }
  const std::int64_t step_count = count_of(content, "optim", "step_count");
  copy_views(parts.params, parts.params.data(), "", model);
  for (const auto& [name, buffer] : moments) {
    copy_views(parts.params, buffer, name + ".", optim);
  }
  parts.optimizer.set_step_count(step_count);
  return state;
}

void restore_average(const nn::CheckpointContent& content, const FlatParams& params,
                     nn::AveragedParams& average) {
  if (!content.tensors.contains("swa")) return;
  const Sources sources = by_name(file_of(content, "swa"));
  check_views(params.slots(), "", sources);
  const std::int64_t count = count_of(content, "swa", "average.count");
  copy_views(params, average.data(), "", sources);
  average.set_count(count);
}

void restore_weights(const io::NamedTensors& tensors, const FlatParams& params) {
  const Sources sources = by_name(tensors);
  check_views(params.slots(), "", sources);
  copy_views(params, params.data(), "", sources);
}

void broadcast_state(const Ranks& ranks, FlatParams& params, nn::Optimizer& optimizer,
                     const Moments& moments, nn::AveragedParams* average) {
  dist::Comm& comm = ranks.comm();
  comm.broadcast(params.data());
  params.refresh_compute();
  share_moments(ranks, optimizer, params, moments);
  if (average != nullptr) comm.broadcast(average->data());
  const Tensor counts = Tensor::from<std::int64_t>(
      {2}, {optimizer.step_count(), average != nullptr ? average->count() : 0});
  comm.broadcast(counts);
  optimizer.set_step_count(counts.data<std::int64_t>()[0]);
  if (average != nullptr) average->set_count(counts.data<std::int64_t>()[1]);
}

bool all_finite(const Tensor& tensor) {
  const Tensor here = tensor.to(DeviceKind::kCpu);
  for (const float value : here.span<float>()) {
    if (!std::isfinite(value)) return false;
  }
  return true;
}

}  // namespace onpa::apps
