#include "apps/report/report.h"

#include <utility>
#include <vector>

#include "apps/report/report_page.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {

void write_report(const std::filesystem::path& study_folder, const std::filesystem::path& page) {
  const report::Study study = report::load_study(study_folder);
  const std::filesystem::path file = page.empty() ? study_folder / "report.html" : page;
  const std::filesystem::path tables = file.parent_path() / "tables";
  const io::FaultScope faults(io::FileKind::kTables);
  io::place_of(file);  // which may be refused, before there is a folder beside it
  io::make_folders(tables);
  std::vector<io::StagedFile> files;
  for (const report::Table& table : report::report_tables(study)) {
    files.emplace_back(tables / (table.name + ".csv"), report::table_csv(table));
    files.emplace_back(tables / (table.name + ".json"), report::table_json(table));
    files.emplace_back(tables / (table.name + ".md"), report::table_markdown(table));
  }
  files.emplace_back(file, report::report_page(study));
  for (io::StagedFile& staged : files) staged.commit();
}

}  // namespace onpa::apps
