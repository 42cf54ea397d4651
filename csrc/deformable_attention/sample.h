// Where a location lies on a level: the neighbours' places and their shares.
#pragma once

#include <cmath>

#include "../shared/simd.h"
#include "problem.h"

namespace {

using segzoo::Level;

// Two neighbours along one side. Those outside have share 0 and the place of the one inside.
template <typename Real>
struct Pair {
  long place[2];
  Real share[2];
  Real inside[2];  // 1 or 0
};

// False for a position whose neighbours are both outside. NaN has neighbours, with shares of NaN.
template <typename Real>
SEGZOO_FORCE_INLINE bool pair_at(Real position, long size, Pair<Real>& pair) {
  if (!(position > -1 && position < static_cast<Real>(size))) {
    if (position == position) return false;
    pair = {{0, 0}, {position, position}, {1, 1}};
    return true;
  }
  const Real floor = std::floor(position), fraction = position - floor;
  const long low = static_cast<long>(floor), high = low + 1;
  pair.inside[0] = low >= 0;
  pair.inside[1] = high < size;
  pair.place[0] = low >= 0 ? low : 0;
  pair.place[1] = high < size ? high : size - 1;
  pair.share[0] = (1 - fraction) * pair.inside[0];
  pair.share[1] = fraction * pair.inside[1];
  return true;
}

// The four neighbours in the order top left, top right, bottom left, bottom right.
template <typename Real>
struct Neighbours {
  Pair<Real> column, row;

  SEGZOO_FORCE_INLINE bool find(const Real* location, const Level& level) {
    const Real half = static_cast<Real>(0.5);
    return pair_at(location[0] * static_cast<Real>(level.width) - half, level.width, column) &&
           pair_at(location[1] * static_cast<Real>(level.height) - half, level.height, row);
  }
  SEGZOO_FORCE_INLINE long token(int corner, const Level& level) const {
    return row.place[corner / 2] * level.width + column.place[corner % 2];
  }
  SEGZOO_FORCE_INLINE Real share(int corner) const { return row.share[corner / 2] * column.share[corner % 2]; }
};

template <typename Real>
SEGZOO_FORCE_INLINE long padded(long head_dim) {
  return (head_dim + kLanes<Real> - 1) / kLanes<Real> * kLanes<Real>;
}

}  // namespace
