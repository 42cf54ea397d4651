// Along a row: the logits of all classes of one logit row, resampled to the pixel columns of a strip.
#pragma once

#include "../shared/simd.h"
#include "problem.h"

namespace {

using segzoo::Problem;
using segzoo::View;

using Pixels = Vector<float>;
constexpr int kStrip = kLanes<float>;

typedef unsigned short HalfPixels __attribute__((vector_size(SEGZOO_VECTOR_BYTES / 2)));
typedef unsigned short UnalignedHalf __attribute__((vector_size(SEGZOO_VECTOR_BYTES / 2), aligned(2), may_alias));

SEGZOO_FORCE_INLINE Pixels read(const float* source) { return load<float>(source); }

// bfloat16 is the upper half of a float.
SEGZOO_FORCE_INLINE Pixels read(const unsigned short* source) {
  const HalfPixels half = *reinterpret_cast<const UnalignedHalf*>(source);
  return reinterpret_cast<Pixels>(__builtin_convertvector(half, Mask<float>) << 16);
}

SEGZOO_FORCE_INLINE Pixels larger(Pixels one, Pixels other) { return other > one ? other : one; }

// Count terms that all read the same vector, with what they need in registers. Writes [C, lanes] and returns the
// largest value of each lane. Logits of the next row are fetched into the cache meanwhile: rows of unlike classes
// lie far apart, and the processor does not guess them.
template <int Count, typename Logit>
Pixels widen_in_registers(const View& view, long term, long classes, const Logit* row, float* target) {
  Mask<float> index[Count];
  Pixels weight[Count];
  for (int t = 0; t < Count; ++t) {
    index[t] = reinterpret_cast<Mask<float>>(load<float>(
        reinterpret_cast<const float*>(view.columns.index + (term + t) * kStrip)));
    weight[t] = load<float>(view.columns.weight + (term + t) * kStrip);
  }
  const Logit* logits = row + view.columns.start[term];
  Pixels most = broadcast<float>(-__builtin_inff());
  for (long c = 0; c < classes; ++c, logits += view.class_stride) {
    __builtin_prefetch(logits + view.row_stride);
    const Pixels values = read(logits);
    Pixels sum = weight[0] * permute<float>(values, index[0]);
#pragma GCC unroll 4
    for (int t = 1; t < Count; ++t) sum += weight[t] * permute<float>(values, index[t]);
    store<float>(target + c * kStrip, sum);
    most = larger(most, sum);
  }
  return most;
}

// Any number of terms, from any places: the strips where windows meet.
template <typename Logit>
Pixels widen_any(const View& view, long first, long last, long classes, const Logit* row, float* target) {
  Pixels most = broadcast<float>(-__builtin_inff());
  for (long c = 0; c < classes; ++c) {
    Pixels sum = Pixels{};
    for (long t = first; t < last; ++t) {
      const Mask<float> index = reinterpret_cast<Mask<float>>(
          load<float>(reinterpret_cast<const float*>(view.columns.index + t * kStrip)));
      const Pixels values = read(row + c * view.class_stride + view.columns.start[t]);
      sum += load<float>(view.columns.weight + t * kStrip) * permute<float>(values, index);
    }
    store<float>(target + c * kStrip, sum);
    most = larger(most, sum);
  }
  return most;
}

template <typename Logit>
Pixels widen_row(const View& view, long strip, long classes, long source, float* target) {
  const long first = view.columns.first[strip], count = view.columns.first[strip + 1] - first;
  const Logit* row = static_cast<const Logit*>(view.logits) + source * view.row_stride;
  if (count > 0 && count <= 4 && view.columns.start[first] == view.columns.start[first + count - 1]) {
    if (count == 1) return widen_in_registers<1>(view, first, classes, row, target);
    if (count == 2) return widen_in_registers<2>(view, first, classes, row, target);
    if (count == 3) return widen_in_registers<3>(view, first, classes, row, target);
    return widen_in_registers<4>(view, first, classes, row, target);
  }
  return widen_any(view, first, first + count, classes, row, target);
}

// The widened rows of one view and strip that were used last. A slot holds [C, lanes], and before them the largest
// value of each lane. Groups follow each other downwards, so that most of a group's rows are here already.
class Rows {
 public:
  static long slots(const View& view) { return 2 * view.rows.most; }
  static long slot_size(long classes) { return (classes + 1) * kStrip; }
  // Floats for the slots and the numbers of the rows in them.
  static long size(const View& view, long classes) {
    return slots(view) * slot_size(classes) + (slots(view) + kStrip - 1) / kStrip * kStrip;
  }

  // `fresh`: nothing is in the memory yet.
  Rows(const Problem& problem, const View& view, long strip, float* memory, bool fresh = true)
      : view_(view), strip_(strip), classes_(problem.classes), slots_(memory),
        held_(reinterpret_cast<int*>(memory + slots(view) * slot_size(problem.classes))) {
    for (long slot = 0; fresh && slot < slots(view); ++slot) held_[slot] = -1;
  }

  // Where row number k of a group's sources is, once `bring` has been called for the group.
  const float* row(long group, long k) const {
    return slots_ + place(view_.rows.source[view_.rows.first[group] + k]) * slot_size(classes_);
  }

  void bring(long group) {
    const int* first = view_.rows.source + view_.rows.first[group];
    const int* last = view_.rows.source + view_.rows.first[group + 1];
    for (const int* source = first; source != last; ++source) {
      if (place(*source) >= 0) continue;
      long slot = 0;
      while (within(held_[slot], first, last)) ++slot;
      held_[slot] = *source;
      float* target = slots_ + slot * slot_size(classes_);
      const auto widen = view_.half ? widen_row<unsigned short> : widen_row<float>;
      store<float>(target, widen(view_, strip_, classes_, *source, target + kStrip));
    }
  }

 private:
  long place(int source) const {
    for (long slot = 0; slot < slots(view_); ++slot) {
      if (held_[slot] == source) return slot;
    }
    return -1;
  }
  static bool within(int row, const int* first, const int* last) {
    for (const int* source = first; source != last; ++source) {
      if (*source == row) return true;
    }
    return false;
  }

  const View& view_;
  long strip_, classes_;
  float* slots_;
  int* held_;
};

}  // namespace
