#include "apps/support/config.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include "apps/support/suggest.h"
#include "kernels/error.h"
#include "tests/apps/run_command.h"

namespace onpa::apps {
namespace {

// The message of the kConfig error that loading gives; "" if there is none.
std::string config_error(const std::string& toml, const std::vector<std::string>& set = {}) {
  const testing::TempFolder folder;
  testing::write_bytes(folder / "c.toml", toml);
  try {
    load_config("dense", folder / "c.toml", set);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    const std::string message = error.what();
    const std::size_t at = message.find("c.toml");
    return at == std::string::npos ? message : message.substr(at);
  }
  return "";
}

TEST(Config, UnknownKeyNamesPlaceAndNearest) {
  EXPECT_EQ(config_error("[train]\nepochs = 3\n  leraning_rate = 1\nlrr = 0.1\n"),
            "c.toml:3:3: no setting 'train.leraning_rate'");
  EXPECT_EQ(config_error("[train]\nepohcs = 3\n"),
            "c.toml:2:1: no setting 'train.epohcs' (did you mean 'train.epochs'?)");
  EXPECT_EQ(config_error("lr = 3.0\n"), "c.toml:1:6: no setting 'lr' (did you mean 'train.lr'?)");
  EXPECT_EQ(config_error("", {"trian.lr=1"}),
            "--set trian.lr=1: no setting 'trian.lr' (did you mean 'train.lr'?)");
}

TEST(Config, WrongTypeIsAnError) {
  EXPECT_EQ(config_error("[train]\nlr = \"1e-5\"\n"),
            "c.toml:2:1: train.lr is \"1e-5\", want a number");
  EXPECT_EQ(config_error("[train]\nepochs = 1.5\n"),
            "c.toml:2:1: train.epochs is 1.5, want a whole number");
  EXPECT_EQ(config_error("[data]\nstandardize_target = 1\n"),
            "c.toml:2:1: data.standardize_target is 1, want true or false");
  EXPECT_EQ(config_error("[model]\nhidden = [64, \"x\"]\n"),
            "c.toml:2:1: model.hidden is a list with an item that is no whole number, want a list "
            "of whole numbers");
  EXPECT_EQ(config_error("", {"train.epochs=many"}),
            "--set train.epochs=many: train.epochs is 'many', want a whole number");
  EXPECT_EQ(config_error("", {"train.epochs"}), "--set train.epochs: want section.key=value");
}

TEST(Config, OutOfRangeIsAnError) {
  EXPECT_EQ(config_error("[train]\nbatch_size = 0\n"),
            "c.toml:2:1: train.batch_size is 0, want 1 to 16777216");
  EXPECT_NE(config_error("[train]\nlr = nan\n"), "");
  EXPECT_NE(config_error("[train]\nlr = inf\n"), "");
  EXPECT_NE(config_error("[model]\nhidden = [0]\n"), "");
  EXPECT_EQ(config_error("[optim]\nkind = \"adam\"\n"),
            "c.toml:2:1: optim.kind is \"adam\", want adamw, sgd (did you mean 'adamw'?)");
}

TEST(Config, SettingsThatContradictEachOtherAreAnError) {
  EXPECT_EQ(
      config_error("", {"schedule.kind=cosine", "schedule.warmup_epochs=5", "train.epochs=3"}),
      "schedule: total_epochs is 3, want more than warmup_epochs");
  EXPECT_NE(config_error("", {"mel.fmin_hz=9000", "mel.fmax_hz=8000"}), "");
  EXPECT_NE(config_error("", {"data.gain_low_db=1"}), "");
}

TEST(Config, FineTuningIsForPasst) {
  EXPECT_EQ(config_error("", {"train.freeze=body"}), "train.freeze is for passt, not for dense");
  EXPECT_EQ(config_error("", {"optim.layer_decay=0.5"}),
            "optim.layer_decay is for passt, not for dense");
  EXPECT_EQ(config_error("", {"optim.head_lr_scale=2"}),
            "optim.head_lr_scale is for passt, not for dense");
}

TEST(Config, LayersHaveTheRatesThatAreAskedFor) {
  EXPECT_FALSE(load_config("passt", {}, {}).optimizer().rate_scale);
  const auto rate =
      load_config("passt", {}, {"optim.layer_decay=0.5", "optim.head_lr_scale=4"}).optimizer();
  EXPECT_EQ(rate.rate_scale("blocks.10.norm1.bias"), 0.25);
  EXPECT_EQ(rate.rate_scale("head.1.bias"), 4);
}

// What somebody chose stays, what nobody did becomes the other preset's or the given values.
TEST(Config, RebasesOnOtherDefaults) {
  std::vector<std::string> given;
  const Config asked = load_config("passt", {}, {"train.lr=0.5", "train.batch_size=3"}, &given);
  EXPECT_EQ(given, (std::vector<std::string>{"train.lr", "train.batch_size"}));
  const Config got = rebase(asked, given, "passt-xs", {{"model.depth", "7"}}, "file");
  EXPECT_EQ(got.train.lr, 0.5);
  EXPECT_EQ(got.train.batch_size, 3);
  EXPECT_EQ(got.model.depth, 7);
  EXPECT_EQ(got.model.width, 64);
  EXPECT_EQ(got.data.seconds, 1);
  EXPECT_EQ(value_text(got, "model.depth"), "7");
}

TEST(Config, RecipesLoad) {
  const std::filesystem::path folder =
      std::filesystem::path(ONPA_GOLDEN_DIR).parent_path().parent_path() / "recipes";
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    SCOPED_TRACE(entry.path().string());
    const bool dense = entry.path().stem().string().ends_with("_dense");
    const Config config = load_config(dense ? "dense" : "passt", entry.path(), {});
    EXPECT_GE(config.train.epochs, 10);
    if (!dense) {
      EXPECT_EQ(config.average.kind, "swa");
      EXPECT_EQ(config.schedule.kind, "passt");
      EXPECT_LE(config.train.lr, 1e-4);
      EXPECT_LE(config.average.swa_start_epoch, config.train.epochs);
    }
    ++count;
  }
  EXPECT_EQ(count, 6);
}

TEST(Config, BrokenTomlNamesThePlace) {
  EXPECT_EQ(config_error("[train]\nlr = \n").rfind("c.toml:2:", 0), 0u);
  EXPECT_EQ(config_error("[train]\nlr = 1.0\nlr = 2.0\n").rfind("c.toml:3:", 0), 0u);
  EXPECT_NE(config_error("[train]\nloss = \"\xff\"\n"), "");
}

TEST(Config, MissingFileIsInputMissing) {
  try {
    load_config("dense", "/nonexistent/c.toml", {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInputMissing);
  }
}

TEST(Config, LaterSourcesWin) {
  const testing::TempFolder folder;
  testing::write_bytes(folder / "c.toml", "[train]\nlr = 0.5\nepochs = 7\nbatch_size = 3\n");
  setenv("ONPA_TRAIN_LR", "0.25", 1);
  setenv("ONPA_TRAIN_EPOCHS", "8", 1);
  const Config config = load_config("dense", folder / "c.toml", {"train.lr=0.125"});
  unsetenv("ONPA_TRAIN_LR");
  unsetenv("ONPA_TRAIN_EPOCHS");
  EXPECT_EQ(config.train.lr, 0.125);
  EXPECT_EQ(config.train.epochs, 8);
  EXPECT_EQ(config.train.batch_size, 3);
}

TEST(Config, UnknownEnvironmentOfASectionIsAnError) {
  setenv("ONPA_TRAIN_LRR", "1", 1);
  std::string message;
  try {
    load_config("dense", "", {});
  } catch (const Error& error) {
    message = error.what();
  }
  unsetenv("ONPA_TRAIN_LRR");
  EXPECT_EQ(message, "environment ONPA_TRAIN_LRR: no such setting (did you mean 'ONPA_TRAIN_LR'?)");
  setenv("ONPA_THREADS", "2", 1);  // of no section: not a setting
  EXPECT_NO_THROW(load_config("dense", "", {}));
  unsetenv("ONPA_THREADS");
}

TEST(Config, ResolvedTextGivesItselfBack) {
  for (const char* kind : {"dense", "passt"}) {
    const Config config =
        load_config(kind, "",
                    {"train.lr=1.2345678901234567e-05", "loader.cache_folder=a \"b\"\n\t\\",
                     "optim.clip_norm=3", "model.hidden=[1,2,3]"});
    const std::string text = to_toml(config);
    EXPECT_EQ(to_toml(parse_toml(kind, text, "x")), text);
    EXPECT_TRUE(changed_keys(config, parse_toml(kind, text, "x")).empty());
  }
}

TEST(Config, PresetBringsTheFrontEndItWasPublishedWith) {
  const Config config = load_config("passt", "", {"model.preset=passt-s-hop160"});
  EXPECT_EQ(config.model.table_t, 200);
  EXPECT_EQ(config.mel.hop_samples, 160);
  EXPECT_EQ(config.data.seconds, 10);
  EXPECT_EQ(config.train.patchout_time, 80);
  const Config longer = load_config("passt", "", {"model.preset=passt-s-30sec", "data.seconds=15"});
  EXPECT_EQ(longer.model.table_t, 300);
  EXPECT_EQ(longer.mel.hop_samples, 320);
  EXPECT_EQ(longer.data.seconds, 15);
}

TEST(Config, PresetFillsSizes) {
  const Config config = load_config("passt", "", {"model.preset=passt-xs", "model.depth=3"});
  EXPECT_EQ(config.mel.mels, 32);
  EXPECT_EQ(config.model.depth, 3);
  EXPECT_EQ(config.model.width, 64);
  EXPECT_EQ(config.passt().outputs, 1);
  EXPECT_THROW(load_config("dense", "", {"model.preset=passt-s"}), Error);
  EXPECT_THROW(load_config("passt", "", {"model.heads=7"}), Error);
}

TEST(Suggest, NearNamesOnly) {
  const std::vector<std::string> names = {"train.lr", "train.epochs", "mel.mels"};
  EXPECT_EQ(nearest_name("train.lr", names), "train.lr");
  EXPECT_EQ(nearest_name("epoch", names), "train.epochs");
  EXPECT_EQ(nearest_name("something.else", names), "");
}

}  // namespace
}  // namespace onpa::apps
