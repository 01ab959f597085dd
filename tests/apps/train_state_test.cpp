// What a checkpoint must hold to be gone on from.
#include "apps/training/train_state.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/error.h"

namespace onpa::apps {
namespace {

using Values = std::vector<float>;

// Two parameters and their moments.
struct Model {
  Tensor a = Tensor::full({2}, 1).set_requires_grad(), b = Tensor::full({3}, 2).set_requires_grad();
  FlatParams params{{{"a", &a}, {"b", &b}}};
  nn::Optimizer optimizer{{}, params};

  TrainParts parts() { return {params, optimizer}; }
  Values moment(std::size_t which, std::size_t slot) const {
    return params.view(optimizer.state()[which].second, params.slots()[slot]).to_vector<float>();
  }
};

nn::CheckpointContent trained() {
  Model model;
  model.params.data().copy_from(Tensor::full(model.params.data().shape(), 5));
  for (const auto& [name, moment] : model.optimizer.state()) {
    moment.copy_from(Tensor::full(moment.shape(), 7));
  }
  ModelCard card;
  card.kind = "dense";
  return make_checkpoint({}, model.parts(), model.optimizer.state(), card,
                         load_config("dense", {}, {}));
}

TEST(RestoreCheckpoint, AMomentThatIsMissingIsRefusedUnlessItWasFrozen) {
  nn::CheckpointContent content = trained();
  std::erase_if(content.tensors["optim"], [](const auto& t) { return t.first.ends_with(".b"); });
  Model model;
  try {
    restore_checkpoint(content, model.parts(), model.optimizer.state(), NewMoments::kRefused);
    ADD_FAILURE() << "restored";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadCheckpoint);
    EXPECT_STREQ(error.what(), "the checkpoint has no tensor m.b");
  }
  EXPECT_EQ(model.a.to_vector<float>(), Values(2, 1));
  EXPECT_EQ(model.moment(0, 0), Values(2, 0));

  restore_checkpoint(content, model.parts(), model.optimizer.state(), NewMoments::kZero);
  EXPECT_EQ(model.b.to_vector<float>(), Values(3, 5));
  for (const std::size_t which : {0u, 1u}) {
    EXPECT_EQ(model.moment(which, 0), Values(2, 7));
    EXPECT_EQ(model.moment(which, 1), Values(3, 0));
  }
  content.tensors["model"].pop_back();
  EXPECT_THROW(
      restore_checkpoint(content, model.parts(), model.optimizer.state(), NewMoments::kZero),
      Error);
}

}  // namespace
}  // namespace onpa::apps
