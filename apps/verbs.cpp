#include "apps/verbs.h"

#include <cmath>
#include <cstdint>
#include <string>

#include "nn/transformer.h"

namespace onpa::apps {
namespace {

// CLI11's own checks of ranges let NaN through.
CLI::Validator number_from(double least, double most) {
  const auto check = [=](const std::string& text) {
    double value = 0;
    const bool is_number = CLI::detail::lexical_cast(text, value) && std::isfinite(value);
    if (is_number && value >= least && value <= most) return std::string();
    return "got " + text + ", want " + CLI::detail::to_string(least) + " to " +
           CLI::detail::to_string(most);
  };
  return CLI::Validator(check, "");
}

constexpr double kMostSeconds = 30000;

// Of a length: no less than a sample of the audio that models hear.
CLI::Validator seconds() {
  return number_from(1.0 / 32000, kMostSeconds);
}

// An empty text is a variable of a script that was never set, not the default.
void refuse_empty(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_items_expected_max() == 0) continue;
    option->check([](const std::string& text) {
      return text.empty() ? std::string("is empty") : std::string();
    });
  }
}

void add_device(CLI::App& app, std::string& device) {
  app.add_option("--device", device, "auto: a GPU if one can be used; cpu; cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
}

void add_config(CLI::App& app, ConfigArgs& config) {
  app.add_option("--config", config.file, "TOML file of settings");
  app.add_option("--set", config.set,
                 "section.key=value; may be repeated; see onpa inspect settings")
      ->allow_extra_args(false);
}

void add_compute(CLI::App& app, ComputeChoice& compute) {
  add_device(app, compute.device);
  app.add_option("--precision", compute.precision,
                 "of a GPU: f32, bf16, or auto (bf16 for audio, f32 for features)")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}));
}

void add_weights(CLI::App& app, WeightsChoice& weights) {
  app.add_option("--set", weights.set,
                 "of a file with several sets of weights: net, net_swa, model, ...; default: the "
                 "averaged ones");
  app.add_option("--hop", weights.hop,
                 "samples between frames, where a file of weights leaves that open; 0: as it says")
      ->check(CLI::Range(0, 10000));
}

Verb add_prepare(CLI::App& root, PrepareArgs& a) {
  CLI::App* app = root.add_subcommand(
      "prepare", "Make a data set from a CSV of tracks: clean, de-duplicate, match audio, split");
  app->footer(
      "The layouts of the public tables of Spotify features are known by their headers\n"
      "(docs/data.md). Rows with values that are missing or out of range are dropped and\n"
      "counted, rows of one track are joined before the split.\n"
      "Splits: random; artist (artists who recorded together stay together); first-artist\n"
      "(only the first of a track counts); column:NAME (train or test in that column); rows\n"
      "(no de-duplication: leaks tracks into test, only to show that).");
  app->add_option("--csv", a.csv, "CSV with one track, or one track and genre, a row")->required();
  app->add_option("--audio", a.audio, "folder of <track id>.mp3 (or wav, flac, ogg, m4a, opus)");
  app->add_option("--out", a.out, "data set folder to write")->required();
  app->add_option("--features", a.features, "paper10, printed8 or comma-separated columns");
  app->add_option("--column", a.columns,
                  "ROLE=HEADER: the column of id, genre, popularity, name, artists or a feature, "
                  "where its name does not tell; may be repeated")
      ->allow_extra_args(false);
  app->add_option("--split", a.split, "random, artist, first-artist, column:NAME or rows");
  app->add_option("--train-fraction", a.train_fraction, "share of the tracks to train on");
  app->add_option("--undersample", a.undersample,
                  "most train tracks of a popularity bin: none, min, median, q0.25 (quantile) or "
                  "a count");
  app->add_option("--bin-width", a.bin_width, "popularity points a bin");
  app->add_option("--target", a.target,
                  "what models learn, from -0.5 to 0.5: popularity 0 to 100 (fixed), or the least "
                  "to the largest of the train tracks (minmax)");
  app->add_option("--min-popularity", a.min_popularity,
                  "drop tracks below; 1 drops the many with popularity 0")
      ->check(number_from(0, 100));
  app->add_option("--min-genre", a.min_genre,
                  "forget genres with fewer tracks, and drop tracks without another");
  app->add_option("--genres", a.genres, "use these alone: a,b")
      ->delimiter(',')
      ->allow_extra_args(false);
  app->add_option("--seed", a.seed, "of the split and the undersampling");
  return {app, [&a] { return run_prepare(a); }};
}

void add_init_set(CLI::App& app, std::string& set) {
  app.add_option(
      "--init-set", set,
      "of an --init-from with several sets of weights: net, net_swa, model, ...; default: "
      "the averaged ones");
}

Verb add_train(CLI::App& root, TrainArgs& a) {
  CLI::App* app = root.add_subcommand("train", "Train a model on a data set");
  app->add_option("model", a.model, "passt or dense")
      ->required()
      ->check(CLI::IsMember({"passt", "dense"}));
  app->add_option("--data", a.data, "data set folder (see prepare)")->required();
  app->add_option("--run", a.run, "run folder to write")->required();
  add_config(*app, a.config);
  app->add_option("--resume", a.resume, "auto: go on if there is a checkpoint; must; no")
      ->check(CLI::IsMember({"auto", "must", "no"}));
  app->add_option(
      "--init-from", a.init_from,
      "weights to start from: a published or safetensors file, a checkpoint or a run; its "
      "architecture and front end are used");
  add_init_set(*app, a.init_set);
  add_device(*app, a.device);
  app->add_option("--profile", a.profile,
                  "steps=A:B: where the time of steps A to B - 1 goes (docs/profiling.md)")
      ->check([](const std::string& text) {
        return text.empty() ? std::string("want steps=A:B") : std::string();
      });
  app->add_option("--report-json", a.report_json,
                  "file that says how the run stands and how it ended (docs/tuning.md)");
  app->add_flag("--quiet", a.quiet, "warnings and errors only");
  return {app, [&a] { return run_train_ranks(a); }, true};
}

Verb add_eval(CLI::App& root, EvalArgs& a) {
  CLI::App* app = root.add_subcommand("eval", "Errors of trained runs on the test split");
  app->add_option("--run", a.runs, "run folder; may be repeated")
      ->required()
      ->allow_extra_args(false);
  app->add_option("--data", a.data, "data set folder; default: the one trained on");
  app->add_option("--by", a.by, "genre: errors per genre too")->check(CLI::IsMember({"genre"}));
  app->add_option("--out", a.out, "folder of the tables; default: the first run");
  app->add_option("--batch-size", a.batch_size, "samples of one pass")
      ->check(CLI::Range(1, 1 << 24));
  add_compute(*app, a.compute);
  return {app, [&a] { return run_eval(a); }};
}

void add_clips(CLI::App& app, ClipArgs& a, const std::string& inputs) {
  app.add_option("inputs", a.inputs, inputs);
  app.add_option("--list", a.list, "file that names inputs, a line each; - for standard input");
  app.add_option(
         "--long", a.longer,
         "clips over the model's length: windows, averaged; interpolate the time table; cut")
      ->check(CLI::IsMember({"windows", "interpolate", "cut"}));
  app.add_option("--window", a.window_seconds, "seconds of a window; default: the model's length")
      ->check(seconds());
  app.add_option("--every", a.hop_seconds,
                 "seconds between windows; default: 2.5 of 10 s, 5 of 20, 10 of 30")
      ->check(seconds());
  app.add_option("--batch", a.batch, "windows of one pass; default: as many as fit well")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--max-seconds", a.max_seconds, "refuse longer audio; default: any length")
      ->check(seconds());
}

Verb add_predict(CLI::App& root, PredictArgs& a) {
  CLI::App* app = root.add_subcommand("predict", "Predictions for audio files or feature rows");
  app->add_option("--model", a.model, "run, checkpoint or file of weights (safetensors, .pt)")
      ->required();
  add_weights(*app, a.weights);
  add_clips(*app, a.clips, "audio files, folders of them, @LIST, - for standard input; CSV files");
  app->add_flag("--json", a.json, "one JSON object a line");
  app->add_flag("--csv", a.csv, "a CSV with a column for each output");
  app->add_option("--npy", a.npy, ".npy file to write as well: float32 (inputs, outputs)");
  app->add_option("--top", a.top, "show the K highest outputs, with names where they are known")
      ->check(CLI::Range(1, 1 << 20));
  app->add_option("--classes", a.classes,
                  "file of class names, one a line; default: AudioSet's for 527 outputs");
  add_compute(*app, a.compute);
  return {app, [&a] { return run_predict(a); }};
}

Verb add_embed(CLI::App& root, EmbedArgs& a) {
  CLI::App* app = root.add_subcommand("embed", "Features of audio files for other tools");
  app->add_option("--model", a.model, "run, checkpoint or file of weights (safetensors, .pt)")
      ->required();
  add_weights(*app, a.weights);
  add_clips(*app, a.clips, "audio files, folders of them, @LIST, - for standard input");
  app->add_option(
         "--data", a.data,
         "data set, in place of files: --out is one with the same tracks and these features")
      ->excludes("inputs")
      ->excludes("--list");
  app->add_option("--out", a.out, ".npy file to write: float32 (inputs, numbers)")->required();
  app->add_option("--mode", a.mode, "features; logits; all: logits, then features")
      ->check(CLI::IsMember({"features", "logits", "all"}));
  app->add_flag("--timestamps", a.timestamps,
                "embeddings of 160 ms every 50 ms (or --every), with their times in a CSV beside");
  app->add_option("--layout", a.layout, "of timestamp embeddings")
      ->check(CLI::IsMember(timestamp_layouts()));
  add_compute(*app, a.compute);
  return {app, [&a] { return run_embed(a); }};
}

Verb add_convert(CLI::App& root, ConvertArgs& a) {
  CLI::App* app = root.add_subcommand(
      "convert", "Weights as safetensors, or as a .pt file that torch.load reads");
  app->add_option("model", a.model, "run, checkpoint or file of weights (safetensors, .pt)")
      ->required();
  app->add_option("out", a.out, "file to write: NAME.safetensors, NAME.pt or NAME.pth")->required();
  add_weights(*app, a.weights);
  return {app, [&a] { return run_convert(a); }};
}

Verb add_explain(CLI::App& root, ExplainArgs& a) {
  CLI::App* app = root.add_subcommand("explain", "What in an audio file a prediction rests on");
  app->add_option("--model", a.model, "run, checkpoint or file of weights (safetensors, .pt)")
      ->required();
  app->add_option("input", a.input, "audio file")->required();
  app->add_option("--out", a.out, "figure to write: .png or .svg")->required();
  app->add_option("--method", a.method,
                  "rollout: attention of all layers; attention: of one; gradient; gradient-input: "
                  "times the distance from silence; integrated: integrated gradients")
      ->check(CLI::IsMember(explain_method_names()));
  const auto choice = [&](const char* name, std::int64_t& value, const char* help) {
    app->add_option(name, value, help)->capture_default_str()->default_str("");
  };
  choice("--layer", a.layer, "of attention; default: the last");
  choice("--head", a.head, "of attention; default: the mean over heads");
  choice("--output", a.output, "of which gradients are taken; default: the largest");
  app->add_option("--steps", a.steps, "of integrated gradients")->check(CLI::Range(1, 100000));
  app->add_option("--from", a.from_s, "second of the file where the model begins to listen")
      ->check(number_from(0, kMostSeconds));
  app->add_option("--json", a.json, "file for the numbers: margins, sums, settings");
  app->add_option(
      "--npy", a.npy,
      ".npy file for the map: float32, patches of attention, else cells (mels, frames)");
  add_weights(*app, a.weights);
  add_device(*app, a.device);
  return {app, [&a] { return run_explain(a); }};
}

Verb add_mel(CLI::App& root, MelArgs& a) {
  CLI::App* app = root.add_subcommand("mel", "The log-mel spectrogram of an audio file");
  app->add_option("input", a.input, "audio file")->required();
  app->add_option("--out", a.out, ".npy file to write: float32 (mels, frames)")->required();
  app->add_option("--mels", a.mels, "mel bands")->check(CLI::Range(1, 1024));
  return {app, [&a] { return run_mel(a); }};
}

Verb add_inspect(CLI::App& root, InspectArgs& a) {
  CLI::App* app = root.add_subcommand("inspect", "What a model, run, checkpoint or data set holds");
  app->add_option("path", a.path, "file, folder, a preset's name (passt-s, ...), or \"settings\"")
      ->required();
  add_weights(*app, a.weights);
  app->add_flag("--memory", a.memory, "device memory of a preset's training step; needs no GPU");
  app->add_option("--batch", a.batch, "with --memory: clips")->check(CLI::Range(1, 1 << 20));
  app->add_option("--seconds", a.seconds, "with --memory: length of a clip")
      ->check(number_from(0.1, 3600));
  app->add_option("--precision", a.precision, "with --memory: bf16 or f32")
      ->check(CLI::IsMember({"bf16", "f32"}));
  app->add_option("--recompute", a.recompute, "with --memory: as train.recompute")
      ->check(CLI::IsMember(nn::recompute_names()));
  app->add_option("--patchout-time", a.patchout_time, "with --memory: columns left out");
  app->add_option("--patchout-freq", a.patchout_freq, "with --memory: rows left out");
  return {app, [&a] { return run_inspect(a); }};
}

Verb add_bench(CLI::App& root, BenchArgs& a) {
  CLI::App* app = root.add_subcommand(
      "bench",
      "Time a model's steps on this machine, or what ranks send each other; needs no data");
  app->add_option("model", a.model, "passt, dense, or comm: the network between ranks")
      ->required()
      ->check(CLI::IsMember({"passt", "dense", "comm"}));
  add_config(*app, a.config);
  app->add_option("--what", a.what, "train: training steps; eval: passes of an evaluation")
      ->check(CLI::IsMember({"train", "eval"}));
  add_device(*app, a.device);
  app->add_option("--precision", a.precision,
                  "of a GPU: f32, bf16, or auto (bf16 for audio, f32 for features); default: "
                  "train.precision")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}));
  app->add_option("--steps", a.steps, "steps to time; default: for 10 s, at least 5")
      ->check(CLI::Range(std::int64_t{1}, kMostBenchSteps));
  app->add_option("--warmup", a.warmup,
                  "steps before that, not counted; default: 1, on a GPU 3, 50 short ones")
      ->check(CLI::Range(0, 1000000));
  app->add_option("--json", a.json, "file for everything that was measured");
  app->add_option("--most-mib", a.most_mib, "comm: the largest all_reduce")
      ->check(CLI::Range(1, 1 << 14));
  app->add_option("--trace", a.trace, "file for a Chrome trace, as of train --profile");
  return {app, [&a] { return run_bench(a); }};
}

Verb add_env(CLI::App& root, EnvArgs& a) {
  CLI::App* app = root.add_subcommand("env", "Version, machine and libraries, for bug reports");
  app->add_flag("--json", a.json, "as JSON");
  return {app, [&a] { return run_env(a); }};
}

Verb add_demo(CLI::App& root, DemoArgs& a) {
  CLI::App* app = root.add_subcommand("demo", "Render a corpus, train both models, print tables");
  app->add_flag("--full", a.full, "the larger corpus, of which the README's tables are made");
  app->add_option("--out", a.out, "folder to work in");
  app->add_option("--seed", a.seed, "of the corpus and the training");
  return {app, [&a] { return run_demo(a); }, true};
}

Verb add_report(CLI::App& root, ReportArgs& a) {
  CLI::App* app = root.add_subcommand("report", "The page and the tables of a study");
  app->add_option("study", a.study, "study folder (study.json)")->required();
  app->add_option("--out", a.out,
                  "HTML file to write, with a folder of tables beside it; default: report.html in "
                  "the study folder");
  return {app, [&a] { return run_report(a); }};
}

Verb add_study(CLI::App& root, StudyArgs& a) {
  CLI::App* app = root.add_subcommand(
      "study", "Train both models on all data and on each genre, and compare them");
  app->add_option("--data", a.data, "data set folder (see prepare)")->required();
  app->add_option("--out", a.out, "folder of the study; a study that is there goes on")->required();
  app->add_option("--models", a.models, "passt, dense or both, separated by commas");
  app->add_option("--genres", a.genres, "all, none, or names separated by commas");
  app->add_option("--min-tracks", a.min_tracks, "leave smaller genres out")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 40));
  app->add_option("--jobs", a.jobs, "Dense models trained at a time; 0: as many as threads")
      ->check(CLI::Range(0, 4096));
  add_device(*app, a.device);
  const auto settings = [&](const std::string& model, ConfigArgs& config) {
    app->add_option("--config-" + model, config.file, "TOML file of settings of " + model);
    app->add_option("--set-" + model, config.set,
                    "section.key=value of " + model + "; may be repeated")
        ->allow_extra_args(false);
  };
  settings("passt", a.passt);
  settings("dense", a.dense);
  app->add_option("--from", a.from, "what the models of genres start from: scratch or all-data")
      ->check(CLI::IsMember({"scratch", "all-data"}));
  app->add_option("--init-from", a.init_from,
                  "weights that passt starts from, as train passt has it");
  add_init_set(*app, a.init_set);
  app->add_option(
         "--variant", a.variants,
         "NAME=MODEL:key=value,key=value: a model with other settings, on all data; may be "
         "repeated")
      ->allow_extra_args(false);
  app->add_option("--seed", a.seed, "of training (default: as the settings say) and bootstrap (1)");
  app->add_option("--draws", a.draws, "of the bootstrap")->check(CLI::Range(100, 1000000));
  app->add_option("--peers", a.peers, "folder of predictions of other programs (tools/peers.py)");
  app->add_flag("--no-report", a.no_report, "write study.json and tables only");
  return {app, [&a] { return run_study(a); }, true};
}

}  // namespace

std::vector<Verb> add_verbs(CLI::App& root, AllArgs& args) {
  std::vector<Verb> verbs = {
      add_prepare(root, args.prepare), add_train(root, args.train), add_eval(root, args.eval),
      add_predict(root, args.predict), add_embed(root, args.embed), add_convert(root, args.convert),
      add_explain(root, args.explain), add_mel(root, args.mel),     add_inspect(root, args.inspect),
      add_bench(root, args.bench),     add_env(root, args.env),     add_demo(root, args.demo),
      add_report(root, args.report),   add_study(root, args.study),
  };
  for (const Verb& verb : verbs) refuse_empty(*verb.app);
  return verbs;
}

}  // namespace onpa::apps
