// Any bytes as a pickle: plain data whose references lead to values that are there.
#include "tensor/io/pickle.h"

#include "tests/fuzz/target.h"

ONPA_FUZZ_TARGET(pickle, bytes) {
  using namespace onpa;
  io::Pickle pickle;
  if (!fuzz::survives({ExitCode::kBadCheckpoint}, [&] { pickle = io::parse_pickle(bytes); })) {
    return;
  }
  fuzz::require(pickle.bytes_used <= bytes.size(), "more bytes used than there are");
  fuzz::require(pickle.root < pickle.values.size(), "a root that is not there");
  // Each value and each reference to one takes a byte of input at least.
  std::size_t references = 0;
  for (const io::PickleValue& value : pickle.values) {
    references += value.items.size();
    for (const io::PickleRef item : value.items) {
      fuzz::require(item < pickle.values.size(), "a reference to a value that is not there");
    }
    fuzz::require(!io::describe(value).empty(), "a value without a description");
  }
  fuzz::require(references <= io::PickleLimits().references, "more references than allowed");
}
