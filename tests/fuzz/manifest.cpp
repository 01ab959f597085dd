// Any bytes as a checkpoint's MANIFEST.json: only what format_manifest() writes is taken.
#include "nn/manifest.h"
#include "tests/fuzz/target.h"

ONPA_FUZZ_TARGET(manifest, bytes) {
  using namespace onpa;
  const std::string text(fuzz::text_of(bytes));
  nn::Manifest manifest;
  if (!fuzz::survives({ExitCode::kBadCheckpoint}, [&] { manifest = nn::parse_manifest(text); })) {
    return;
  }
  fuzz::require(nn::format_manifest(manifest) == text, "another text with the same meaning");
  for (const auto& [name, file] : manifest.files) {
    fuzz::require(nn::is_plain_name(name), "a name that is a path");
  }
}
