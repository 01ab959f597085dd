#include "apps/study/prepare.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/commands/commands.h"
#include "kernels/error.h"

namespace onpa::apps {

int run_prepare(const PrepareArgs& args) {
  const data::DataSet data = prepare_data(args);
  data.save(args.out);
  const auto card = nlohmann::ordered_json::parse(data.card);
  const auto& rows = card["rows"];
  const auto& tracks = card["tracks"];
  const auto show = [](const char* what, const nlohmann::ordered_json& count) {
    std::printf("%10lld  %s\n", static_cast<long long>(count.get<std::int64_t>()), what);
  };
  show("rows read", rows["read"]);
  for (const auto& [reason, n] : rows["dropped_by_reason"].items()) {
    show(("rows dropped: " + reason).c_str(), n);
  }
  show("rows joined to a track with the same id", rows["joined"]);
  for (const auto& [reason, n] : tracks["dropped_by_reason"].items()) {
    if (n.get<std::int64_t>() > 0) show(("tracks dropped: " + reason).c_str(), n);
  }
  show("tracks used", tracks["used"]);
  show("train tracks", tracks["train"]);
  show("train tracks kept by undersampling", tracks["train_kept"]);
  show("test tracks", tracks["test"]);
  std::string names;
  for (const std::string& name : data.feature_names) names += (names.empty() ? "" : ", ") + name;
  std::printf("features: %s\nwrote %s\n", names.c_str(), args.out.c_str());
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace onpa::apps
