// The verbs of the command `onpa`: what the command line asked for, and one function per verb.
// Parsing lives in apps/onpa.cpp alone; a verb sees plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/inference/model_card.h"
#include "apps/inference/windows.h"
#include "apps/support/compute_device.h"

namespace onpa::apps {

/// A configuration file ("" for none) and `section.key=value` texts, in the order given.
struct ConfigArgs {
  std::string file;
  std::vector<std::string> set;
};

struct PrepareArgs {
  std::string csv;
  std::string audio;                      // folder of audio files named by track id; "" for none
  std::string out;                        // data set folder to write
  std::string features = "paper10";       // paper10 | printed8 | comma-separated column names
  std::vector<std::string> columns = {};  // "role=header" where the headers leave it open
  std::string split = "random";           // random | artist | first-artist | column:NAME | rows
  double train_fraction = 0.8;            // (0, 1)
  std::string undersample = "none";       // none | min | median | q0.25 | 200
  double bin_width = 5;                   // popularity points
  std::string target = "fixed";           // fixed | minmax
  double min_popularity = 0;              // tracks below are dropped
  std::int64_t min_genre = 0;  // genres with fewer tracks are taken from the tracks' lists
  std::vector<std::string> genres = {};  // the only ones to use; empty for all
  std::uint64_t seed = 1;
  std::vector<std::string> command = {};  // as typed
};

struct TrainArgs {
  std::string model;  // passt | dense
  std::string data;   // data set folder
  std::string run;    // run folder, made if missing
  ConfigArgs config;
  std::string resume = "auto";  // auto | must | no
  std::string init_from;        // weights to start from; "" for none
  std::string init_set;         // which set of weights of that file; "" for the default
  std::string device = "auto";  // auto | cpu | cuda
  std::string profile;          // "steps=A:B"; "" for none
  std::string report_json;      // file to keep up to date; "" for none
  bool quiet = false;
};

struct EvalArgs {
  std::vector<std::string> runs;  // one or more run folders
  std::string data;               // "" for the data set that the first run was trained on
  std::string by;                 // "genre" or ""
  std::string out;                // folder of the tables; "" for the first run's folder
  std::int64_t batch_size = 16;
  ComputeChoice compute = {.device = "auto"};
};

/// Clips to hear, and how those that are longer than the model's length are heard.
struct ClipArgs {
  std::vector<std::string> inputs;  // files, folders of them, @LIST, or - for standard input
  std::string list;                 // file that names more of them, a line each; "" for none
  std::string longer = "windows";   // windows | interpolate | cut
  double window_seconds = 0, hop_seconds = 0;  // 0: the model's
  std::int64_t batch = 0;                      // windows of one pass; 0: as many as fit well
  double max_seconds = 0;                      // longer audio is refused; 0: any length
};

struct PredictArgs {
  std::string model;  // run folder, checkpoint folder or file of weights
  ClipArgs clips;     // inputs of a dense model are CSV files
  bool json = false, csv = false;
  std::string npy;       // file of predictions to write; "" for none
  std::int64_t top = 0;  // classes to show, best first; 0: as the output has it
  std::string classes;   // file of class names; "" for none
  WeightsChoice weights = {};
  ComputeChoice compute = {.device = "auto"};
};

struct EmbedArgs {
  std::string model;
  WeightsChoice weights = {};
  std::string data;  // data set folder, in place of inputs; `out` is then one too
  ClipArgs clips;
  std::string out;                // .npy, f32 (inputs, numbers), or (timestamps, numbers)
  std::string mode = "features";  // features | logits | all: logits, then features
  bool timestamps = false;
  std::string layout = "base";  // of timestamp embeddings: base | base2level | base2levelmel
  ComputeChoice compute = {.device = "auto"};
};

struct ConvertArgs {
  std::string model;  // run folder, checkpoint folder or file of weights
  std::string out;    // .safetensors, .pt or .pth
  WeightsChoice weights = {};
};

struct ExplainArgs {
  std::string model;
  std::string input;                                // audio file
  std::string out;                                  // figure to write: .png or .svg
  std::string method = "rollout";                   // explain_method_names()
  std::int64_t layer = -1, head = -1, output = -1;  // -1: the last, their mean, the largest
  std::int64_t steps = 64;                          // of integrated
  double from_s = 0;
  std::string json, npy;  // files to write; "" for none
  WeightsChoice weights = {};
  std::string device = "auto";
};

struct MelArgs {
  std::string input;
  std::string out;  // .npy, f32 (mels, frames)
  int mels = 128;
};

struct InspectArgs {
  // file of weights, checkpoint, run or data set folder, a preset's name, or "settings"
  std::string path;
  WeightsChoice weights = {};
  bool memory = false;  // of a training step of the preset on a GPU, planned without one
  std::int64_t batch = 8;
  double seconds = 30;
  std::string precision = "bf16";                     // bf16 | f32
  std::string recompute = "none";                     // as train.recompute
  std::int64_t patchout_time = 0, patchout_freq = 0;  // columns and rows left out
};

struct BenchArgs {
  std::string model;  // passt | dense | comm
  ConfigArgs config;
  std::string what = "train";  // train | eval
  std::string device = "auto";
  std::string precision;  // "" for train.precision
  std::optional<std::int64_t> steps, warmup;
  std::string json;             // file to write; "" for none
  std::string trace;            // the same
  std::int64_t most_mib = 256;  // comm: the largest all_reduce
};

struct EnvArgs {
  bool json = false;
};

struct DemoArgs {
  bool full = false;
  std::string out = "demo";
  std::uint64_t seed = 1;
};

struct ReportArgs {
  std::string study;  // study folder (study.json)
  std::string out;    // page to write; "" for report.html in the study folder
};

/// What a ClipArgs says of windows.
WindowOptions window_options(const ClipArgs& args);

/// Each verb returns an exit code and throws onpa::Error for a failure that a person can act on.
/// Results go to stdout, logs and progress to stderr.
int run_prepare(const PrepareArgs& args);
int run_train(const TrainArgs& args);  // as the only rank
/// As one of the ranks of a job if a launcher has started several, else as the only one.
int run_train_ranks(const TrainArgs& args);
int run_eval(const EvalArgs& args);
int run_predict(const PredictArgs& args);
int run_embed(const EmbedArgs& args);
int run_convert(const ConvertArgs& args);
int run_explain(const ExplainArgs& args);
int run_mel(const MelArgs& args);
int run_inspect(const InspectArgs& args);
int run_bench(const BenchArgs& args);
int run_bench_comm(const BenchArgs& args);
int run_env(const EnvArgs& args);
int run_demo(const DemoArgs& args);
int run_report(const ReportArgs& args);

}  // namespace onpa::apps
