// The lists of the pickle interpreter: which globals a file may name, and what opcodes are called.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tensor/io/pickle.h"

namespace onpa::io {

inline constexpr std::string_view kOrderedDict = "collections.OrderedDict";
inline constexpr std::string_view kTorchSize = "torch.Size";
inline constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor_v2";
inline constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";
inline constexpr std::size_t kGlobalBytes = 256;  // of a module's or a global's name

/// The element type of the torch storage called `global` ("torch.FloatStorage"); none for others.
std::optional<StorageType> storage_named(std::string_view global);
/// Whether objects of this class are passed over, whatever they hold.
bool is_inert(std::string_view global);
/// Whether a file may name this global at all.
bool is_allowed(std::string_view global);
/// "REDUCE", or "number 255" for what is no opcode.
std::string opcode_name(unsigned char code);

}  // namespace onpa::io
