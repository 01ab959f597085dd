#include "apps/inference/model_card.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/support/log.h"
#include "data/table.h"
#include "kernels/error.h"
#include "nn/passt_io.h"

namespace onpa::apps {
namespace {

using Metadata = std::map<std::string, std::string>;

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
  template <class T>
  std::vector<T> list(const std::string& key, const char* want) const {
    const auto json = nlohmann::json::parse(text(key), nullptr, false);
    if (!json.is_array()) bad(key, want);
    try {
      return json.get<std::vector<T>>();
    } catch (const nlohmann::json::exception&) {
      bad(key, want);
    }
  }
  [[noreturn]] void bad(const std::string& key, const char* want) const {
    fail(ExitCode::kBadCheckpoint, name_, ": metadata ", key, " is '", text(key), "', want ", want);
  }

 private:
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
  m.rate_hz = static_cast<int>(reader.number("mel.rate_hz"));
  m.mels = static_cast<int>(reader.number("mel.mels"));
  m.win_samples = static_cast<int>(reader.number("mel.win_samples"));
  m.hop_samples = static_cast<int>(reader.number("mel.hop_samples"));
  m.fmin_hz = static_cast<float>(reader.number("mel.fmin_hz"));
  m.fmax_hz = static_cast<float>(reader.number("mel.fmax_hz"));
  m.preemphasis = static_cast<float>(reader.number("mel.preemphasis"));
  m.log_offset = static_cast<float>(reader.number("mel.log_offset"));
  m.mean = static_cast<float>(reader.number("mel.mean"));
  m.std = static_cast<float>(reader.number("mel.std"));
  if (m.rate_hz < 1) reader.bad("mel.rate_hz", "at least 1");
  if (m.mels < 1) reader.bad("mel.mels", "at least 1");
  if (m.hop_samples < 1) reader.bad("mel.hop_samples", "at least 1");
  if (m.win_samples < 1 || m.win_samples > kernels::kMelFft) {
    reader.bad("mel.win_samples", "1 to 1024");
  }
  return m;
}

void read_dense(const Reader& reader, const io::SafetensorsFile& file, const std::string& name,
                ModelCard& card) {
  card.feature_names = reader.list<std::string>("feature.names", "a list of names");
  card.features.mean = reader.list<float>("feature.mean", "a list of numbers");
  card.features.std = reader.list<float>("feature.std", "a list of numbers");
  const std::size_t count = card.feature_names.size();
  if (card.features.mean.size() != count || card.features.std.size() != count) {
    fail(ExitCode::kBadCheckpoint, name, ": ", count, " feature names, ", card.features.mean.size(),
         " means, ", card.features.std.size(), " deviations");
  }
  card.dense.inputs = static_cast<std::int64_t>(count);
  card.dense.hidden = reader.list<std::int64_t>("dense.hidden", "a list of widths");
  card.dense.activation = reader.text("dense.activation") == "gelu" ? kernels::Activation::kGelu
                                                                    : kernels::Activation::kRelu;
  const Tensor last = file.find("layers." + std::to_string(card.dense.hidden.size()) + ".weight");
  if (!last.defined() || last.shape().rank() != 2) {
    fail(ExitCode::kBadCheckpoint, name, ": no output layer for ", card.dense.hidden.size(),
         " hidden layers");
  }
  card.dense.outputs = last.size(0);
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
  if (fitting.size() == 1) take(fitting.front());
  if (fitting.size() < 2) return;
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
    card.seconds = reader.number("audio.seconds");
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
