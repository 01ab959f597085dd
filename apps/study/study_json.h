// study.json: all figures of a study, in one file that reports are made from.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "apps/study/study.h"
#include "apps/study/study_results.h"
#include "apps/study/tables.h"

namespace onpa::apps {

/// A model that could not be trained.
struct CellFailure {
  const Cell* cell = nullptr;
  int exit_code = 0;
  std::vector<std::string> last_lines;  // of its log
};

/// Gathers the figures of a study, scope by scope, "all data" first.
class StudyJson {
 public:
  using Results = std::vector<std::pair<const Cell*, CellResult>>;

  /// The arguments outlive it.
  StudyJson(const StudyArgs& args, const StudyPlan& plan, const data::DataSet& data, bool gpu,
            const std::vector<CellFailure>& failures);
  /// `data` is the scope's; results of plain cells and variants.
  void add_scope(std::size_t scope, const data::DataSet& data, const Results& results);
  /// study.json, and table1 and table2 as .json, .csv and .md. Throws Error (kCannotCreate, kIo).
  void write();
  /// Both tables, to stdout.
  void print() const;

 private:
  using Json = nlohmann::ordered_json;
  void add_all_data(const data::DataSet& data, const Results& results);
  void add_variants(const data::DataSet& data, const Results& results);
  void add_peers(const data::DataSet& data);
  Json failed_cell_json(const Cell& cell) const;
  Json cell_json(const Cell& cell, const CellResult& result, const ErrorReport& report) const;
  ErrorReport report(const data::DataSet& data, const std::vector<TrackPrediction>& p) const;
  Json difference(const std::string& of, const std::vector<TrackPrediction>& a,
                  const std::vector<TrackPrediction>& b) const;
  Json failed_json() const;
  void fill_ranks();

  const StudyArgs& args_;
  const StudyPlan& plan_;
  const data::DataSet& data_;
  const std::vector<CellFailure>& failures_;
  std::uint64_t seed_;
  Json json_;
  Table1 table1_;
  Table2 table2_;
};

}  // namespace onpa::apps
