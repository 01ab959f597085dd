// Which strings were met before, without copies of them.
#pragma once

#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace onpa::data {

/// The positions of distinct strings that someone else holds: eight bytes each at a load of 1/3 to
/// 2/3. `text_at(position)` gives the string that was added with a position; fewer than 2^32 - 1.
template <class TextAt>
class IdIndex {
 public:
  static constexpr std::size_t kNone = ~std::size_t{0};

  explicit IdIndex(TextAt text_at) : text_at_(text_at), slots_(16) {}

  /// The position that `text` was added with, or kNone.
  std::size_t find(std::string_view text) const {
    const Slot& slot = slots_[place_of(text, hash_of(text))];
    return slot.position == kFree ? kNone : slot.position;
  }
  /// The same; if it is kNone, `text` is added with `position`.
  std::size_t find_or_add(std::string_view text, std::size_t position) {
    const std::uint32_t hash = hash_of(text);
    Slot& slot = slots_[place_of(text, hash)];
    if (slot.position != kFree) return slot.position;
    slot = {hash, static_cast<std::uint32_t>(position)};
    if (3 * ++used_ > 2 * slots_.size()) grow();
    return kNone;
  }

 private:
  static constexpr std::uint32_t kFree = ~std::uint32_t{0};
  struct Slot {
    std::uint32_t hash = 0, position = kFree;
  };

  static std::uint32_t hash_of(std::string_view text) {
    return static_cast<std::uint32_t>(XXH3_64bits(text.data(), text.size()));
  }

  std::size_t place_of(std::string_view text, std::uint32_t hash) const {
    std::size_t at = hash & (slots_.size() - 1);
    while (slots_[at].position != kFree &&
           (slots_[at].hash != hash || std::string_view(text_at_(slots_[at].position)) != text)) {
      at = (at + 1) & (slots_.size() - 1);
    }
    return at;
  }

  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.position == kFree) continue;
      std::size_t at = slot.hash & (slots_.size() - 1);
      while (slots_[at].position != kFree) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = slot;
    }
  }

  TextAt text_at_;
  std::vector<Slot> slots_;  // a power of two
  std::size_t used_ = 0;
};

}  // namespace onpa::data
