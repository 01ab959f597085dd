// The command line of onpa: parsing, and turning what goes wrong into exit codes. The only file
// that includes CLI11.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <functional>
#include <new>

#include "apps/commands/commands.h"
#include "apps/support/environment.h"
#include "apps/support/log.h"
#include "apps/support/suggest.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

struct AllArgs {
  EnvArgs env;
};

struct Verb {
  CLI::App* app;
  std::function<int()> run;
};

Verb add_env(CLI::App& root, EnvArgs& a) {
  CLI::App* app = root.add_subcommand("env", "Version, machine and libraries, for bug reports");
  app->add_flag("--json", a.json, "as JSON");
  return {app, [&a] { return run_env(a); }};
}

int usage_error(const std::string& message) {
  std::fprintf(stderr, "onpa: %s\n", message.c_str());
  return static_cast<int>(ExitCode::kUsage);
}

// A word that stands where a verb should, but is none.
std::string unknown_verb(const std::vector<Verb>& verbs, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return "";
  std::vector<std::string> names;
  for (const Verb& verb : verbs) names.push_back(verb.app->get_name());
  const std::string word = argv[1];
  if (std::find(names.begin(), names.end(), word) != names.end()) return "";
  return "no verb '" + word + "'" + suggestion(word, names) + "; see onpa --help";
}

// What the parser did not expect, with the nearest option of the verb in use.
std::string unknown_option(const CLI::App& root) {
  for (const CLI::App* app : root.get_subcommands()) {
    std::vector<std::string> names;
    for (const CLI::Option* option : app->get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
    for (const std::string& extra : root.remaining(true)) {
      const std::string word = extra.substr(0, extra.find('='));
      return app->get_name() + ": unexpected '" + extra + "'" + suggestion(word, names) +
             "; see onpa " + app->get_name() + " --help";
    }
  }
  return "unexpected argument; see onpa --help";
}

int run_verb(const Verb& verb) {
  try {
    return verb.run();
  } catch (const Error& error) {
    std::fprintf(stderr, "onpa: %s\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "onpa: out of memory; a smaller train.batch_size needs less\n");
    return static_cast<int>(ExitCode::kOutOfMemory);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "onpa: unexpected failure: %s\n", error.what());
    return static_cast<int>(ExitCode::kInternal);
  }
}

int run(int argc, char** argv) {
  AllArgs args;
  CLI::App root("onpa trains audio transformers and dense regressors", "onpa");
  root.set_version_flag("--version", version_line());
  root.require_subcommand(1);
  root.option_defaults()->always_capture_default();
  const std::vector<Verb> verbs = {add_env(root, args.env)};
  if (const std::string message = unknown_verb(verbs, argc, argv); !message.empty()) {
    return usage_error(message);
  }
  try {
    root.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return root.exit(request);
  } catch (const CLI::ExtrasError&) {
    return usage_error(unknown_option(root));
  } catch (const CLI::ParseError& error) {
    return usage_error(error.what());
  }
  set_up_log(false);
  for (const Verb& verb : verbs) {
    if (*verb.app) return run_verb(verb);
  }
  return usage_error("no verb; see onpa --help");
}

}  // namespace
}  // namespace onpa::apps

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed stdout must not end a training run
  return onpa::apps::run(argc, argv);
}
