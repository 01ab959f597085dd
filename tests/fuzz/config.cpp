// Any bytes as settings: what is understood is printed and understood as the same.
#include "apps/support/config.h"
#include "tests/fuzz/target.h"

ONPA_FUZZ_TARGET(config, bytes) {
  using namespace onpa;
  const std::string text(fuzz::text_of(bytes));
  for (const char* kind : {"passt", "dense"}) {
    apps::Config config;
    if (!fuzz::survives({ExitCode::kConfig},
                        [&] { config = apps::parse_toml(kind, text, "input"); })) {
      continue;
    }
    const std::string printed = apps::to_toml(config);
    apps::Config again;
    fuzz::require(fuzz::survives({ExitCode::kConfig},
                                 [&] { again = apps::parse_toml(kind, printed, "printed"); }),
                  "what was printed is refused");
    fuzz::require(apps::to_toml(again) == printed, "what was printed reads otherwise");
  }
}
