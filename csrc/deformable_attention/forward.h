// Forward: the points of a query become a list of neighbours and weights, and the list one vector of sums.
#pragma once

#include <algorithm>

#include "sample.h"

namespace {

using segzoo::Problem;

constexpr int kListed = 64;  // points a list holds; a longer one is worked off in parts

// Points that lie on their level, with where their neighbours are.
template <typename Real>
struct List {
  int count = 0;
  const Real* corner[kListed][4];
  Real weight[kListed][4];
};

// Adds a list's weighted values to Width vectors of sums. A sum for each corner keeps the additions from
// waiting for one another.
template <typename Real, int Width>
SEGZOO_FORCE_INLINE void add_list(const List<Real>& list, long channel, Real* sum) {
  Vector<Real> total[4][Width];
  for (int c = 0; c < 4; ++c) {
    for (int i = 0; i < Width; ++i) total[c][i] = Vector<Real>{};
  }
  for (int point = 0; point < list.count; ++point) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const Vector<Real> weight = broadcast<Real>(list.weight[point][c]);
      const Real* values = list.corner[point][c] + channel;
#pragma GCC unroll 4
      for (int i = 0; i < Width; ++i) total[c][i] += weight * load<Real>(values + i * kLanes<Real>);
    }
  }
  for (int i = 0; i < Width; ++i) {
    Real* target = sum + channel + i * kLanes<Real>;
    store<Real>(target, load<Real>(target) + ((total[0][i] + total[1][i]) + (total[2][i] + total[3][i])));
  }
}

template <typename Real>
void add_list(const List<Real>& list, long width, Real* sum) {
  long channel = 0;
  for (; channel + 2 * kLanes<Real> <= width; channel += 2 * kLanes<Real>) add_list<Real, 2>(list, channel, sum);
  for (; channel < width; channel += kLanes<Real>) add_list<Real, 1>(list, channel, sum);
}

// One query of one head. `number` counts (batch, query, head); `sum` has room for a padded head.
template <typename Real>
void attend(const Problem& problem, long number, const Real* values, Real* sum) {
  const long width = padded<Real>(problem.head_dim), points = problem.points;
  const long first = number * problem.level_count * points;
  const Real* locations = static_cast<const Real*>(problem.locations) + 2 * first;
  const Real* weights = static_cast<const Real*>(problem.weights) + first;
  std::fill(sum, sum + width, static_cast<Real>(0));
  List<Real> list;
  for (long index = 0; index < problem.level_count; ++index) {
    const Level& level = problem.levels[index];
    const Real* map = values + level.start * width;
    for (long point = 0; point < points; ++point, locations += 2, ++weights) {
      Neighbours<Real> around;
      if (!around.find(locations, level)) continue;
      for (int c = 0; c < 4; ++c) {
        list.corner[list.count][c] = map + around.token(c, level) * width;
        list.weight[list.count][c] = *weights * around.share(c);
      }
      if (++list.count == kListed) {
        add_list(list, width, sum);
        list.count = 0;
      }
    }
  }
  add_list(list, width, sum);
}

template <typename Real>
void forward(const Problem& problem, long unit, Real* scratch) {
  const long blocks = (problem.queries + segzoo::kQueriesAUnit - 1) / segzoo::kQueriesAUnit;
  const long head = unit / blocks % problem.heads, batch = unit / blocks / problem.heads;
  const long begin = unit % blocks * segzoo::kQueriesAUnit;
  const long end = std::min(begin + segzoo::kQueriesAUnit, problem.queries);
  const long map = problem.tokens * padded<Real>(problem.head_dim);
  const Real* values = static_cast<const Real*>(problem.packed_value) + (batch * problem.heads + head) * map;
  for (long query = begin; query < end; ++query) {
    const long number = (batch * problem.queries + query) * problem.heads + head;
    attend(problem, number, values, scratch);
    Real* output = static_cast<Real*>(problem.output) + number * problem.head_dim;
    std::copy(scratch, scratch + problem.head_dim, output);
  }
}

}  // namespace
