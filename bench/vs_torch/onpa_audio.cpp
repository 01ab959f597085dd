// Rows of the audio side: the mel front end, decoding, and whole epochs of decoding.
#include <cmath>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <vector>

#include "audio/decode.h"
#include "audio/encode.h"
#include "audio/mel.h"
#include "bench/vs_torch/onpa_rows.h"
#include "data/loader.h"
#include "tests/support/hash_fill.h"

namespace onpa::vs {
namespace {

constexpr int kFileRateHz = 44100, kBitRateKbps = 128;
// Compared samples of a decoded clip at 32 kHz: both ends, where a resampler's filter meets
// nothing, stay out.
constexpr std::int64_t kCheckedFrom = 16000, kCheckedUntilTail = 32000;

Kind mel_kind() {
  return {
      .inputs =
          [](const Job& job) {
            const std::int64_t batch = job.args.at("batch"), samples = job.args.at("samples");
            return io::NamedTensors{{"wave", testing::hash_tensor({batch, samples}, "wave", 0.3f)}};
          },
      .work =
          [](const Job&, const io::SafetensorsFile& in) {
            const Tensor wave = in.find("wave");
            const auto run = [wave] { return audio::log_mel(wave, {}); };
            return Work{.check =
                            [run] {
                              Outputs out;
                              add(out, "mel", run());
                              return out;
                            },
                        .run = [run] { run(); }};
          }};
}

// Noise below 11 kHz of varying level over tones: dense, and clear of where resamplers differ.
audio::Clip clip_of(double seconds, const std::string& name) {
  constexpr int kTaps = 95;
  constexpr double kCutoff = 11000.0 / kFileRateHz, kPi = 3.14159265358979323846;
  std::vector<float> filter(kTaps);
  for (int i = 0; i < kTaps; ++i) {
    const double t = i - kTaps / 2;
    const double sinc = t == 0 ? 2 * kCutoff : std::sin(2 * kPi * kCutoff * t) / (kPi * t);
    filter[static_cast<std::size_t>(i)] =
        static_cast<float>(sinc * (0.5 - 0.5 * std::cos(2 * kPi * (i + 1) / (kTaps + 1))));
  }
  const std::uint32_t hash = testing::hash_name(name);
  audio::Clip clip{.samples = std::vector<float>(static_cast<std::size_t>(seconds * kFileRateHz)),
                   .rate_hz = kFileRateHz};
  for (std::size_t i = 0; i < clip.samples.size(); ++i) {
    float noise = 0;
    for (std::size_t tap = 0; tap < kTaps; ++tap) {
      noise += filter[tap] * testing::hash_uniform(hash, static_cast<std::uint32_t>(i + tap));
    }
    const float t = static_cast<float>(i) / kFileRateHz;
    clip.samples[i] = 0.2f * std::sin(2764.6f * t) + (0.3f + 0.15f * std::sin(9.0f * t)) * noise;
  }
  return clip;
}

void write_mp3(const std::filesystem::path& path, double seconds) {
  const std::vector<std::byte> bytes =
      audio::encode_mp3(clip_of(seconds, path.filename()), kBitRateKbps);
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

Kind decode_kind() {
  return {.inputs =
              [](const Job& job) {
                write_mp3(job.folder / "clip.mp3", job.args.at("seconds"));
                return io::NamedTensors{};
              },
          .work =
              [](const Job& job, const io::SafetensorsFile&) {
                const auto run = [path = job.folder / "clip.mp3"] {
                  return audio::decode_file(path);
                };
                const std::int64_t samples =
                    audio::kModelRateHz * job.args.at("seconds").get<std::int64_t>();
                return Work{.check =
                                [run, samples] {
                                  const audio::Clip clip = run();
                                  Outputs out;
                                  out.add("wave", clip.samples.data() + kCheckedFrom,
                                          static_cast<std::size_t>(samples - kCheckedUntilTail));
                                  return out;
                                },
                            .run = [run] { run(); }};
              }};
}

// One epoch of the loader over `files` clips, with nothing to feed: how decoding grows with
// workers.
Kind decode_epoch_kind() {
  return {.inputs =
              [](const Job& job) {
                for (int i = 0; i < job.args.at("files").get<int>(); ++i) {
                  write_mp3(job.folder / ("clip" + std::to_string(i) + ".mp3"),
                            job.args.at("seconds"));
                }
                return io::NamedTensors{};
              },
          .work =
              [](const Job& job, const io::SafetensorsFile&) {
                const auto set = std::make_shared<data::DataSet>();
                set->audio_root = job.folder;
                std::vector<std::int64_t> rows;
                for (int i = 0; i < job.args.at("files").get<int>(); ++i) {
                  rows.push_back(i);
                  set->tracks.push_back(
                      {.id = std::to_string(i), .audio = "clip" + std::to_string(i) + ".mp3"});
                }
                const auto loader = std::make_shared<data::AudioLoader>(
                    *set, rows,
                    data::LoaderOptions{.batch_size = 1,
                                        .workers = job.args.at("workers").get<int>(),
                                        .cache_folder = {},
                                        .decoder = {},
                                        .items = {},
                                        .partners = {}});
                const auto run = [set, loader, epoch = std::make_shared<std::uint64_t>(0)] {
                  loader->start_epoch((*epoch)++);
                  std::vector<float> samples_of_clips;
                  for (data::AudioBatch batch; loader->next(batch);) {
                    samples_of_clips.push_back(static_cast<float>(batch.wave.numel()));
                  }
                  return samples_of_clips;
                };
                return Work{.check =
                                [run] {
                                  const std::vector<float> samples = run();
                                  Outputs out;
                                  out.add("samples", samples.data(), samples.size());
                                  return out;
                                },
                            .run = [run] { run(); }};
              }};
}

}  // namespace

std::map<std::string, Kind> audio_kinds() {
  return {{"mel", mel_kind()}, {"decode", decode_kind()}, {"decode_epoch", decode_epoch_kind()}};
}

}  // namespace onpa::vs
