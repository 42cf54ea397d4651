// Forward: the points of a query become a list of tokens and weights, and the list one vector of sums.
#pragma once

#include <algorithm>

#include "sample.h"

namespace {

using segzoo::Problem;

constexpr int kListed = 64;  // points a list holds before it is worked off

// Points that lie on their level, with the tokens of their neighbours.
template <typename Real>
struct List {
  using Integer = typename Types<Real>::Integer;

  int count = 0;
  Integer token[4][kListed + kLanes<Real>];
  Real weight[4][kListed + kLanes<Real>];

  // Adds the first `points` lanes.
  SEGZOO_FORCE_INLINE void add(const Neighbours<Real>& around, Vector<Real> weights, int points) {
    const Mask<Real> near = around.near();
    for (int c = 0; c < 4; ++c) {
      const Mask<Real> tokens = around.token(c);
      __builtin_memcpy(token[c] + count, &tokens, sizeof tokens);
      store<Real>(weight[c] + count, weights * around.share(c));
    }
    Integer kept[kLanes<Real>];
    __builtin_memcpy(kept, &near, sizeof near);
    int dropped = 0;
    for (int i = 0; i < points; ++i) dropped += kept[i] == 0;
    if (dropped == 0) count += points;
    else keep_some(kept, points);
  }

 private:
  void keep_some(const Integer* kept, int points) {
    const int first = count;
    for (int i = first; i < first + points; ++i) {
      if (!kept[i - first]) continue;
      for (int c = 0; c < 4; ++c) {
        token[c][count] = token[c][i];
        weight[c][count] = weight[c][i];
      }
      ++count;
    }
  }
};

// Adds a list's weighted values to Width vectors of sums. A sum for each corner keeps the additions from
// waiting for one another.
template <typename Real, int Width>
SEGZOO_FORCE_INLINE void add_list(const List<Real>& list, const Real* values, long pitch, Real* sum) {
  Vector<Real> total[4][Width];
  for (int c = 0; c < 4; ++c) {
    for (int i = 0; i < Width; ++i) total[c][i] = Vector<Real>{};
  }
  for (int point = 0; point < list.count; ++point) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const Vector<Real> weight = broadcast<Real>(list.weight[c][point]);
      const Real* token = values + static_cast<long>(list.token[c][point]) * pitch;
#pragma GCC unroll 4
      for (int i = 0; i < Width; ++i) total[c][i] += weight * load<Real>(token + i * kLanes<Real>);
    }
  }
  for (int i = 0; i < Width; ++i) {
    Real* target = sum + i * kLanes<Real>;
    store<Real>(target, load<Real>(target) + ((total[0][i] + total[1][i]) + (total[2][i] + total[3][i])));
  }
}

template <typename Real>
void add_list(const List<Real>& list, const Real* values, long pitch, Real* sum) {
  long channel = 0;
  for (; channel + 2 * kLanes<Real> <= pitch; channel += 2 * kLanes<Real>) {
    add_list<Real, 2>(list, values + channel, pitch, sum + channel);
  }
  for (; channel < pitch; channel += kLanes<Real>) add_list<Real, 1>(list, values + channel, pitch, sum + channel);
}

// What a unit of work has in its scratch memory.
template <typename Real>
struct ForwardScratch {
  long points, chunks;
  Real* sum;           // a padded head
  Sides<Real>* sides;  // of each kLanes points of a query, whatever their levels

  ForwardScratch(const Problem& problem, Real* memory)
      : points(problem.level_count * problem.points),
        chunks((points + kLanes<Real> - 1) / kLanes<Real>),
        sum(memory),
        sides(reinterpret_cast<Sides<Real>*>(memory + padded<Real>(problem.head_dim))) {}

  long size(long head_dim) const {
    return padded<Real>(head_dim) + chunks * static_cast<long>(sizeof(Sides<Real>) / sizeof(Real));
  }

  // Lanes beyond the points have the last one's level.
  void fill(const Problem& problem) const {
    for (long i = 0; i < chunks * kLanes<Real>; ++i) {
      sides[i / kLanes<Real>].set(static_cast<int>(i % kLanes<Real>),
                                  problem.levels[std::min(i, points - 1) / problem.points]);
    }
  }
};

// One query of one head, whose points in the tensors begin at `first`.
template <typename Real>
void attend(const Problem& problem, long first, long end, const Real* values, const ForwardScratch<Real>& scratch) {
  constexpr long lanes = kLanes<Real>;
  const long pitch = padded<Real>(problem.head_dim);
  const Real* locations = static_cast<const Real*>(problem.locations) + 2 * first;
  const Real* weights = static_cast<const Real*>(problem.weights) + first;
  std::fill(scratch.sum, scratch.sum + pitch, static_cast<Real>(0));
  List<Real> list;
  for (long chunk = 0; chunk < scratch.chunks; ++chunk, locations += 2 * lanes, weights += lanes) {
    const long points = std::min(scratch.points - chunk * lanes, lanes);
    const Real *place = locations, *share = weights;
    Real places[2 * lanes] = {}, shares[lanes] = {};
    if (first + chunk * lanes + lanes > end) {  // a whole vector would pass the tensor's end
      place = std::copy(locations, locations + 2 * points, places) - 2 * points;
      share = std::copy(weights, weights + points, shares) - points;
    }
    list.add(Neighbours<Real>::find(place, scratch.sides[chunk]), load<Real>(share), static_cast<int>(points));
    if (list.count >= kListed) {
      add_list(list, values, pitch, scratch.sum);
      list.count = 0;
    }
  }
  add_list(list, values, pitch, scratch.sum);
}

template <typename Real>
void forward(const Problem& problem, long unit, Real* memory) {
  constexpr long ahead = 4;  // queries
  const long blocks = (problem.queries + segzoo::kQueriesAUnit - 1) / segzoo::kQueriesAUnit;
  const long head = unit / blocks % problem.heads, batch = unit / blocks / problem.heads;
  const long begin = unit % blocks * segzoo::kQueriesAUnit;
  const long end = std::min(begin + segzoo::kQueriesAUnit, problem.queries);
  const long map = problem.tokens * padded<Real>(problem.head_dim);
  const Real* values = static_cast<const Real*>(problem.packed_value) + (batch * problem.heads + head) * map;
  const ForwardScratch<Real> scratch(problem, memory);
  const long points = scratch.points, all = problem.batch * problem.queries * problem.heads * points;
  scratch.fill(problem);
  for (long query = begin; query < end; ++query) {
    const long number = (batch * problem.queries + query) * problem.heads + head;
    if (query + ahead < end) {
      const long later = (number + ahead * problem.heads) * points;
      fetch(static_cast<const Real*>(problem.locations) + 2 * later, 2 * points);
      fetch(static_cast<const Real*>(problem.weights) + later, points);
    }
    attend(problem, number * points, all, values, scratch);
    Real* output = static_cast<Real*>(problem.output) + number * problem.head_dim;
    std::copy(scratch.sum, scratch.sum + problem.head_dim, output);
  }
}

template <typename Real>
long forward_scratch(const Problem& problem) {
  return ForwardScratch<Real>(problem, nullptr).size(problem.head_dim);
}

}  // namespace
