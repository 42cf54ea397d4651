// Down the columns of one view: each pixel's scores are formed class by class, and only the best is kept.
#pragma once

#include "widen.h"

namespace {

// A group of RowCount pixel rows from Count logit rows (0: any number, weights from memory). Writes the best class
// of each pixel to best[rows][lanes].
template <int RowCount, int Count>
void best_of_group(const Rows& rows, const View& view, long group, long classes, int* best) {
  const long first = view.rows.first[group];
  const long count = Count ? Count : view.rows.first[group + 1] - first;
  const float* weight = view.rows.weight + first * segzoo::kGroupRows;
  const float* source[Count ? Count : 1];
  Pixels share[RowCount][Count ? Count : 1];
  for (int k = 0; k < Count; ++k) {
    source[k] = rows.row(group, k) + kStrip;
    for (int r = 0; r < RowCount; ++r) share[r][k] = broadcast<float>(weight[r * count + k]);
  }
  Pixels largest[RowCount];
  Mask<float> chosen[RowCount], number{};
  for (int r = 0; r < RowCount; ++r) {
    largest[r] = broadcast<float>(-__builtin_inff());
    chosen[r] = Mask<float>{};
  }
  for (long c = 0; c < classes; ++c) {
    Pixels score[RowCount];
    if constexpr (Count > 0) {
      Pixels values[Count];
#pragma GCC unroll 4
      for (int k = 0; k < Count; ++k) values[k] = load<float>(source[k] + c * kStrip);
#pragma GCC unroll 4
      for (int r = 0; r < RowCount; ++r) {
        score[r] = share[r][0] * values[0];
#pragma GCC unroll 4
        for (int k = 1; k < Count; ++k) score[r] += share[r][k] * values[k];
      }
    } else {
      for (int r = 0; r < RowCount; ++r) score[r] = Pixels{};
      for (long k = 0; k < count; ++k) {
        const Pixels values = load<float>(rows.row(group, k) + (c + 1) * kStrip);
#pragma GCC unroll 4
        for (int r = 0; r < RowCount; ++r) score[r] += weight[r * count + k] * values;
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < RowCount; ++r) {
      const Mask<float> better = score[r] > largest[r];
      largest[r] = better ? score[r] : largest[r];
      chosen[r] = better ? number : chosen[r];
    }
    number += 1;
  }
  for (int r = 0; r < RowCount; ++r) {
    store<float>(reinterpret_cast<float*>(best + r * kStrip), reinterpret_cast<Pixels>(chosen[r]));
  }
}

template <int RowCount>
void best_of_group(const Rows& rows, const View& view, long group, long classes, int* best) {
  const long count = view.rows.first[group + 1] - view.rows.first[group];
  if (count == 2) best_of_group<RowCount, 2>(rows, view, group, classes, best);
  else if (count == 3) best_of_group<RowCount, 3>(rows, view, group, classes, best);
  else best_of_group<RowCount, 0>(rows, view, group, classes, best);
}

void best_of_group(const Problem& problem, const Rows& rows, const View& view, long group, int* best) {
  const long classes = problem.classes;
  switch (problem.groups[group].rows) {
    case 1: return best_of_group<1>(rows, view, group, classes, best);
    case 2: return best_of_group<2>(rows, view, group, classes, best);
    case 3: return best_of_group<3>(rows, view, group, classes, best);
    default: return best_of_group<4>(rows, view, group, classes, best);
  }
}

}  // namespace
