// How predictions of audio are written: text, JSON or CSV on standard output, rows of an npy file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/commands/commands.h"
#include "apps/inference/model_card.h"
#include "apps/inference/windows.h"
#include "tensor/io/npy.h"

namespace onpa::apps {

class PredictOutput {
 public:
  /// `names` of the outputs, may be empty. Throws Error (kUsage) for options that do not go
  /// together.
  PredictOutput(const PredictArgs& args, const ModelCard& card, std::vector<std::string> names);

  void write(const std::string& input, const ClipModel::Output& output);
  /// An input that could not be predicted.
  void skip();
  /// Where rows of predictions go, beside standard output.
  void set_rows(const io::NpyRowSink* rows) { rows_ = rows; }

 private:
  struct Ranked {
    std::size_t index;
    std::string name;
    double logit, probability;
  };
  std::vector<Ranked> top(const std::vector<float>& logits) const;
  std::string output_name(std::size_t index) const;
  void write_json(const std::string& input, const ClipModel::Output& output,
                  const std::vector<double>& prediction) const;
  void write_csv(const std::string& input, const ClipModel::Output& output,
                 const std::vector<double>& prediction);
  void write_text(const std::string& input, const ClipModel::Output& output,
                  const std::vector<double>& prediction) const;

  const PredictArgs& args_;
  const ModelCard& card_;
  std::vector<std::string> names_;
  std::int64_t top_ = 0;
  bool said_header_ = false;
  const io::NpyRowSink* rows_ = nullptr;
};

/// Writes all of a text to standard output. Throws Error (kIo) if it cannot be written.
void print_now(const std::string& text);

}  // namespace onpa::apps
