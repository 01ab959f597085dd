#include "apps/inference/model_card.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/support/log.h"
#include "data/table.h"
#include "kernels/error.h"
#include "nn/load.h"
#include "nn/passt_io.h"

namespace onpa::apps {
namespace {

using Metadata = std::map<std::string, std::string>;
using Json = nlohmann::json;

// Reads entries of one file's metadata with errors that name it.
class Reader {
 public:
  Reader(const Metadata& metadata, const std::string& name) : metadata_(metadata), name_(name) {}

  const std::string& text(const std::string& key) const {
    const auto found = metadata_.find(key);
    if (found == metadata_.end()) fail(ExitCode::kBadCheckpoint, name_, ": no metadata ", key);
    return found->second;
  }
  double number(const std::string& key) const {
    double value = 0;
    if (!data::parse_number(text(key), value)) bad(key, "a number");
    return value;
  }
  double within(const std::string& key, double low, double high) const {
    const double value = number(key);
    if (value < low || value > high) bad(key, fmt::format("{} to {}", low, high));
    return value;
  }
  float real(const std::string& key, double low, double high) const {
    return static_cast<float>(within(key, low, high));
  }
  int whole(const std::string& key, int low, int high) const {
    const double value = number(key);
    if (value < low || value > high || value != std::floor(value)) {
      bad(key, fmt::format("a whole number from {} to {}", low, high));
    }
    return static_cast<int>(value);
  }
  std::vector<std::string> names(const std::string& key) const {
    return list<std::string>(key, "a list of names", [](const Json& x) { return x.is_string(); });
  }
  std::vector<float> floats(const std::string& key) const {
    return list<float>(key, "a list of numbers", [](const Json& x) {
      return x.is_number() && std::isfinite(x.get<float>());
    });
  }
  std::vector<std::int64_t> widths(const std::string& key) const {
    return list<std::int64_t>(key, "a list of widths", [](const Json& x) {
      return x.is_number_integer() && x.get<std::int64_t>() >= 1;
    });
  }
  [[noreturn]] void bad(const std::string& key, const std::string& want) const {
    fail(ExitCode::kBadCheckpoint, name_, ": metadata ", key, " is '", text(key), "', want ", want);
  }

 private:
  template <class T, class IsGood>
  std::vector<T> list(const std::string& key, const char* want, const IsGood& is_good) const {
    const auto json = Json::parse(text(key), nullptr, false);
    if (!json.is_array() || !std::ranges::all_of(json, is_good)) bad(key, want);
    return json.get<std::vector<T>>();
  }

  const Metadata& metadata_;
  const std::string& name_;
};

Metadata mel_metadata(const audio::MelConfig& m) {
  return {{"mel.rate_hz", fmt::format("{}", m.rate_hz)},
          {"mel.mels", fmt::format("{}", m.mels)},
          {"mel.win_samples", fmt::format("{}", m.win_samples)},
          {"mel.hop_samples", fmt::format("{}", m.hop_samples)},
          {"mel.fmin_hz", fmt::format("{}", m.fmin_hz)},
          {"mel.fmax_hz", fmt::format("{}", m.fmax_hz)},
          {"mel.preemphasis", fmt::format("{}", m.preemphasis)},
          {"mel.log_offset", fmt::format("{}", m.log_offset)},
          {"mel.mean", fmt::format("{}", m.mean)},
          {"mel.std", fmt::format("{}", m.std)}};
}

audio::MelConfig read_mel(const Reader& reader) {
  audio::MelConfig m;
  m.rate_hz = reader.whole("mel.rate_hz", 1000, 1000000);
  m.mels = reader.whole("mel.mels", 1, 4096);
  m.win_samples = reader.whole("mel.win_samples", 1, kernels::kMelFft);
  m.hop_samples = reader.whole("mel.hop_samples", 1, 1000000);
  const double nyquist_hz = m.rate_hz / 2.0;
  m.fmin_hz = reader.real("mel.fmin_hz", 0, nyquist_hz);
  m.fmax_hz = reader.real("mel.fmax_hz", 0, nyquist_hz);
  if (m.fmin_hz >= m.fmax_hz) reader.bad("mel.fmax_hz", "more than mel.fmin_hz");
  m.preemphasis = reader.real("mel.preemphasis", -1, 1);
  m.log_offset = reader.real("mel.log_offset", 1e-30, 1);
  m.mean = reader.real("mel.mean", -1000, 1000);
  m.std = reader.real("mel.std", 1e-6, 1e6);
  return m;
}

void read_dense(const Reader& reader, const io::SafetensorsFile& file, const std::string& name,
                ModelCard& card) {
  card.feature_names = reader.names("feature.names");
  card.features.mean = reader.floats("feature.mean");
  card.features.std = reader.floats("feature.std");
  const std::size_t count = card.feature_names.size();
  if (card.features.mean.size() != count || card.features.std.size() != count) {
    fail(ExitCode::kBadCheckpoint, name, ": ", count, " feature names, ", card.features.mean.size(),
         " means, ", card.features.std.size(), " deviations");
  }
  card.dense.inputs = static_cast<std::int64_t>(count);
  card.dense.hidden = reader.widths("dense.hidden");
  card.dense.activation = reader.text("dense.activation") == "gelu" ? kernels::Activation::kGelu
                                                                    : kernels::Activation::kRelu;
  // Nobody makes room for widths that the metadata alone claim.
  std::int64_t inputs = card.dense.inputs;
  for (std::size_t i = 0; i <= card.dense.hidden.size(); ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".weight";
    const Tensor weight = file.find(layer);
    if (!weight.defined() || weight.shape().rank() != 2) {
      fail(ExitCode::kBadCheckpoint, name, ": no matrix ", layer, ", of ", card.dense.hidden.size(),
           " hidden layers");
    }
    const std::int64_t outputs =
        i < card.dense.hidden.size() ? card.dense.hidden[i] : weight.size(0);
    if (weight.shape() != Shape({outputs, inputs})) {
      fail(ExitCode::kBadCheckpoint, name, ": ", layer, " is ", weight.shape(), ", want ",
           Shape({outputs, inputs}));
    }
    inputs = outputs;
  }
  card.dense.outputs = inputs;
}

// Inputs that published time tables were made for, in frames; table = frames / stride.
struct PublishedInput {
  std::int64_t frames;
  int hop_samples;
  double seconds;
  const char* in_name;  // what tells it from another of as many frames
};
constexpr PublishedInput kPublished[] = {
    {998, 320, 10, ""},  {2000, 320, 20, "20sec"}, {2000, 160, 10, "hop160"},
    {3000, 320, 30, ""}, {3200, 100, 10, ""},
};

std::vector<PublishedInput> inputs_of(const nn::PasstConfig& passt) {
  std::vector<PublishedInput> out;
  for (const PublishedInput& input : kPublished) {
    if (input.frames / passt.stride_t == passt.table_t) out.push_back(input);
  }
  return out;
}

// The front end that a bare file's table was made for. Shapes do not say how far apart the frames
// are, and a wrong hop gives wrong results without any sign of it.
void choose_input(ModelCard& card, const std::string& name, int hop) {
  const std::vector<PublishedInput> fitting = inputs_of(card.passt);
  const auto take = [&](const PublishedInput& input) {
    card.mel.hop_samples = input.hop_samples;
    card.seconds = input.seconds;
  };
  if (hop != 0) {
    card.mel.hop_samples = hop;
    for (const PublishedInput& input : fitting) {
      if (input.hop_samples == hop) card.seconds = input.seconds;
    }
    return;
  }
  if (fitting.size() == 1) return take(fitting.front());
  if (fitting.empty()) {
    fail(ExitCode::kConfig, name, ": its ", card.passt.table_t, " columns of time at stride ",
         card.passt.stride_t,
         " are of no published input, and nothing in the file says how many samples its frames are "
         "apart; give --hop (most have 320)");
  }
  const std::string file = std::filesystem::path(name).filename().string();
  std::vector<PublishedInput> named;
  for (const PublishedInput& input : fitting) {
    if (file.find(input.in_name) != std::string::npos) named.push_back(input);
  }
  if (named.size() == 1) {
    take(named.front());
    spdlog::info("{}: {} columns of time fit hop 320 (20 s) and hop 160 (10 s); hop {} by its name",
                 name, card.passt.table_t, card.mel.hop_samples);
    return;
  }
  fail(ExitCode::kConfig, name, ": its ", card.passt.table_t,
       " columns of time are of 20-s clips at hop 320 or of 10-s clips at hop 160, and nothing in "
       "the file says which; give --hop 320 or --hop 160");
}

nn::PasstConfig read_passt(const io::SafetensorsFile& file, const std::string& name) {
  try {
    return nn::infer_passt_config(file);
  } catch (const Error& error) {
    fail(error.code(), name, ": ", error.what());
  }
}

}  // namespace

std::map<std::string, std::string> ModelCard::metadata() const {
  Metadata out = {{"format", "onpa"},
                  {"kind", kind},
                  {"target.mean", fmt::format("{}", target_mean)},
                  {"target.std", fmt::format("{}", target_std)}};
  if (kind == "passt") {
    out.merge(nn::passt_metadata(passt));
    out.merge(mel_metadata(mel));
    out["audio.seconds"] = fmt::format("{}", seconds);
    return out;
  }
  out["dense.hidden"] = nlohmann::json(dense.hidden).dump();
  out["dense.activation"] = dense.activation == kernels::Activation::kGelu ? "gelu" : "relu";
  out["feature.names"] = nlohmann::json(feature_names).dump();
  out["feature.mean"] = nlohmann::json(features.mean).dump();
  out["feature.std"] = nlohmann::json(features.std).dump();
  return out;
}

void ModelCard::check_tensors(const io::NamedTensors& tensors, const std::string& name) const {
  try {
    if (kind == "passt") {
      nn::check_parameters(nn::Passt(passt), tensors);
    } else {
      nn::check_parameters(nn::Dense(dense), tensors);
    }
  } catch (const Error& error) {
    fail(error.code(), name, ": ", error.what());
  }
}

ModelCard ModelCard::read(const io::SafetensorsFile& file, const std::string& name, int hop) {
  ModelCard card;
  const Reader reader(file.metadata, name);
  if (!file.metadata.contains("kind")) {
    card.kind = "passt";
    card.passt = read_passt(file, name);
    card.mel.mels = static_cast<int>(card.passt.mels);
    choose_input(card, name, hop);
    return card;
  }
  card.kind = reader.text("kind");
  card.target_mean = reader.number("target.mean");
  card.target_std = reader.number("target.std");
  if (card.kind == "dense") {
    read_dense(reader, file, name, card);
  } else if (card.kind == "passt") {
    card.passt = read_passt(file, name);
    card.mel = read_mel(reader);
    if (card.mel.mels != card.passt.mels) {
      reader.bad("mel.mels", fmt::format("the {} of the model", card.passt.mels));
    }
    card.seconds = reader.within("audio.seconds", 0, 1e6);
    if (hop != 0 && hop != card.mel.hop_samples) {
      fail(ExitCode::kConfig, name, ": made for hop ", card.mel.hop_samples, "; leave --hop ", hop,
           " out");
    }
  } else {
    reader.bad("kind", "passt or dense");
  }
  return card;
}

}  // namespace onpa::apps
