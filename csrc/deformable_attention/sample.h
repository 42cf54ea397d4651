// Where the points of a query lie on a level, a point in each lane: the neighbours' tokens and their shares.
#pragma once

#include "../shared/shuffle.h"
#include "problem.h"

namespace {

using segzoo::Level;

// The level of each lane's point.
template <typename Real>
struct Sides {
  Vector<Real> width, height;
  Mask<Real> start;  // the level's first token

  SEGZOO_FORCE_INLINE void set(int lane, const Level& level) {
    using Integer = typename Types<Real>::Integer;
    width[lane] = static_cast<Real>(level.width);
    height[lane] = static_cast<Real>(level.height);
    start[lane] = static_cast<Integer>(level.start);
  }
};

// Two neighbours along one side. Those outside have share 0 and the place of the one inside.
template <typename Real>
struct Pair {
  Mask<Real> place[2];
  Vector<Real> share[2];
  Mask<Real> inside[2];
  Mask<Real> near;  // one of the two is inside; or the position is NaN, whose neighbours have shares of NaN

  SEGZOO_FORCE_INLINE Pair(Vector<Real> location, Vector<Real> length) {
    const Vector<Real> none{};
    const Vector<Real> position = location * length - static_cast<Real>(0.5);
    const Mask<Real> strange = position != position, within = (position > -1) & (position < length);
    const Vector<Real> known = within ? position : none;
    const Mask<Real> towards_zero = __builtin_convertvector(known, Mask<Real>);
    const Mask<Real> low = towards_zero + (__builtin_convertvector(towards_zero, Vector<Real>) > known);
    const Vector<Real> fraction = known - __builtin_convertvector(low, Vector<Real>);
    const Mask<Real> last = __builtin_convertvector(length, Mask<Real>) - 1;
    near = within | strange;
    inside[0] = low >= 0;
    inside[1] = low < last;
    place[0] = low & inside[0];
    place[1] = (inside[1] ? low + 1 : last) & ~strange;
    share[0] = strange ? position : (inside[0] ? 1 - fraction : none);
    share[1] = strange ? position : (inside[1] ? fraction : none);
  }
};

// The four neighbours in the order top left, top right, bottom left, bottom right.
template <typename Real>
struct Neighbours {
  Pair<Real> column, row;
  Mask<Real> width, start;

  // `locations` has kLanes pairs (x, y).
  SEGZOO_FORCE_INLINE static Neighbours find(const Real* locations, const Sides<Real>& sides) {
    Vector<Real> x, y;
    split_pairs<Real>(locations, x, y);
    return {{x, sides.width}, {y, sides.height}, __builtin_convertvector(sides.width, Mask<Real>), sides.start};
  }
  SEGZOO_FORCE_INLINE Mask<Real> token(int corner) const {
    return start + row.place[corner / 2] * width + column.place[corner % 2];
  }
  SEGZOO_FORCE_INLINE Vector<Real> share(int corner) const { return row.share[corner / 2] * column.share[corner % 2]; }
  SEGZOO_FORCE_INLINE Mask<Real> near() const { return column.near & row.near; }
};

// Announces numbers that will be read: those of one head lie far apart, and no processor foresees the next query's.
template <typename Real>
SEGZOO_FORCE_INLINE void fetch(const Real* numbers, long count) {
  constexpr long line = 64 / sizeof(Real);
  for (long i = 0; i < count; i += line) __builtin_prefetch(numbers + i);
}

}  // namespace
