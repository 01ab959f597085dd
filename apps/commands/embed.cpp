#include <algorithm>

#include "apps/commands/commands.h"
#include "apps/inference/predictor.h"
#include "apps/support/inputs.h"
#include "apps/support/log.h"
#include "audio/decode.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"
#include "tensor/io/npy.h"

namespace onpa::apps {

// Rows must match the inputs one to one, so a bad input ends the verb.
int run_embed(const EmbedArgs& args) {
  Predictor model(args.model);
  if (!model.passt()) fail(ExitCode::kUsage, args.model, ": a dense model has no audio features");
  model.compute_on(args.compute);
  const std::vector<std::string> inputs = expand_inputs(args.inputs);
  audio::DecodeOptions options;
  options.rate_hz = model.card().mel.rate_hz;
  const std::int64_t width = model.card().passt.width;
  const Tensor out = Tensor::empty({static_cast<std::int64_t>(inputs.size()), width});
  const io::FaultScope faults(io::FileKind::kNpy);
  io::require_room(args.out, out.byte_count());  // now, rather than after hours of work
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const audio::Clip clip = audio::decode_file(inputs[i], options);
    const Predictor::Output output = model.predict(clip.samples, inputs[i]);
    std::copy(output.features.begin(), output.features.end(),
              out.data<float>() + static_cast<std::int64_t>(i) * width);
  }
  io::write_npy(args.out, out);
  spdlog::info("{}: float32 ({}, {})", args.out, inputs.size(), width);
  return 0;
}

}  // namespace onpa::apps
