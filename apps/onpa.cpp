// The command line of onpa: parsing, and turning what goes wrong into exit codes.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "apps/support/environment.h"
#include "apps/support/failure.h"
#include "apps/support/log.h"
#include "apps/support/process.h"
#include "apps/support/suggest.h"
#include "apps/training/rank_job.h"
#include "apps/verbs.h"
#include "data/decode_worker.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

// For this program itself alone: no verb that help names.
constexpr const char* kDecodeVerb = "decode-worker";

int usage_error(const std::string& message) {
  complain_alone(message);
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

int output_error(int error) {
  std::fprintf(stderr, "onpa: cannot write to standard output: %s\n", std::strerror(error));
  return static_cast<int>(ExitCode::kIo);
}

int run_verb(const Verb& verb) {
  const Unfinished mark;
  if (verb.survives_closed_output) std::signal(SIGPIPE, SIG_IGN);
  try {
    return verb.run();
  } catch (const std::exception& error) {
    const Failure failure = failure_of(error);
    complain_alone(failure.message);
    return failure.code;
  }
}

// A result that did not reach its reader is a failure, whatever the verb says.
int flush_results(int code) {
  errno = EIO;  // an earlier write may have failed, whose reason is gone
  const bool flushed = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  int error = errno;
  // Some file systems tell of a full disk only here. A stdout that is closed already is no failure
  // of a verb that wrote nothing.
  const bool closed = std::fclose(stdout) == 0 || (flushed && errno == EBADF);
  if ((flushed && closed) || code != 0) return code;
  if (flushed) error = errno;
  return output_error(error);
}

int run(int argc, char** argv) {
  AllArgs args;
  CLI::App root("onpa trains audio transformers and dense regressors", "onpa");
  root.set_version_flag("--version", version_line());
  root.require_subcommand(1);
  root.option_defaults()->always_capture_default();
  const std::vector<Verb> verbs = add_verbs(root, args);
  if (const std::string message = unknown_verb(verbs, argc, argv); !message.empty()) {
    return usage_error(message);
  }
  try {
    root.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return flush_results(root.exit(request));
  } catch (const CLI::ExtrasError&) {
    return usage_error(unknown_option(root));
  } catch (const CLI::ParseError& error) {
    return usage_error(error.what());
  }
  args.study.command.assign(argv, argv + argc);
  args.prepare.command = args.study.command;
  set_up_log(args.train.quiet);
  for (const Verb& verb : verbs) {
    if (*verb.app) return flush_results(run_verb(verb));
  }
  return usage_error("no verb; see onpa --help");
}

}  // namespace
}  // namespace onpa::apps

int main(int argc, char** argv) {
  onpa::apps::die_with_parent();
  onpa::apps::keep_standard_streams();
  if (argc == 3 && std::string_view(argv[1]) == onpa::apps::kDecodeVerb) {
    onpa::apps::report_crashes("decoder");
    const onpa::apps::Unfinished mark;
    onpa::data::run_decode_worker(std::strtoull(argv[2], nullptr, 10));
  }
  onpa::apps::report_crashes();
  onpa::apps::remove_files_on_signals();
  onpa::apps::set_decoder_command({"/proc/self/exe", onpa::apps::kDecodeVerb});
  return onpa::apps::run(argc, argv);
}
