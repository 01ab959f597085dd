// A tensor's shape: up to six extents, held by value.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>

#include "kernels/error.h"

namespace onpa {

class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents) { assign({extents.begin(), extents.size()}); }
  explicit Shape(std::span<const std::int64_t> extents) { assign(extents); }

  int rank() const { return rank_; }
  /// Extent of an axis; negative counts from the end. Throws Error if out of range.
  std::int64_t operator[](int axis) const {
    const int i = axis < 0 ? axis + rank_ : axis;
    ONPA_CHECK(i >= 0 && i < rank_, "shape ", *this, ": no axis ", axis);
    return extents_[i];
  }
  /// Product of all extents; 1 for rank 0.
  std::int64_t numel() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= extents_[i];
    return n;
  }
  /// Product of the extents but the last; rank >= 1.
  std::int64_t rows() const {
    std::int64_t n = 1;
    for (int i = 0; i + 1 < rank_; ++i) n *= extents_[i];
    return n;
  }
  /// The same shape with one extent replaced; negative axis counts from the end.
  Shape with(int axis, std::int64_t extent) const {
    Shape out = *this;
    const int i = axis < 0 ? axis + rank_ : axis;
    ONPA_CHECK(i >= 0 && i < rank_ && extent >= 0, "shape ", *this, ": cannot set axis ", axis,
               " to ", extent);
    out.extents_[i] = extent;
    return out;
  }
  std::span<const std::int64_t> extents() const {
    return {extents_.data(), static_cast<std::size_t>(rank_)};
  }

  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i) {
      if (a.extents_[i] != b.extents_[i]) return false;
    }
    return true;
  }
  friend std::ostream& operator<<(std::ostream& out, const Shape& shape) {
    out << '(';
    for (int i = 0; i < shape.rank_; ++i) out << (i ? ", " : "") << shape.extents_[i];
    return out << ')';
  }

 private:
  void assign(std::span<const std::int64_t> extents) {
    ONPA_CHECK(extents.size() <= kMaxRank, "shape of rank ", extents.size(), ", at most ",
               kMaxRank);
    for (const std::int64_t extent : extents) {
      ONPA_CHECK(extent >= 0, "shape with negative extent ", extent);
      extents_[rank_++] = extent;
    }
  }

  std::array<std::int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

}  // namespace onpa
