#include "apps/report/report.h"

#include <fmt/core.h>

#include "apps/commands/commands.h"

namespace onpa::apps {

int run_report(const ReportArgs& args) {
  write_report(args.study, args.out);
  const std::filesystem::path page = args.out.empty()
                                         ? std::filesystem::path(args.study) / "report.html"
                                         : std::filesystem::path(args.out);
  fmt::print("{}\n", page.string());
  return 0;
}

}  // namespace onpa::apps
