// Backward: a unit is one level of one head of one image, and nobody else writes to its gradients.
#pragma once

#include <algorithm>

#include "sample.h"

namespace {

using segzoo::Problem;

// What up to kLanes points of a query have, a row for each corner: tokens of the level, weights, and the products of
// the values there with the query's output gradient.
template <typename Real>
struct Corners {
  typename Types<Real>::Integer token[4][kLanes<Real>];
  Real weight[4][kLanes<Real>];
  Real product[4][kLanes<Real>];
};

// The products of a query's output gradient with the four neighbours' values.
template <typename Real>
SEGZOO_FORCE_INLINE void multiply(const Real* gradient, const Real* values, long pitch, int point,
                                  Corners<Real>& corners) {
  const Real* value[4];
  for (int c = 0; c < 4; ++c) value[c] = values + static_cast<long>(corners.token[c][point]) * pitch;
  Vector<Real> sum[4] = {};
  for (long d = 0; d < pitch; d += kLanes<Real>) {
    const Vector<Real> part = load<Real>(gradient + d);
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) sum[c] += part * load<Real>(value[c] + d);
  }
  Real sums[4];
  sums_of_four<Real>(sum, sums);
  for (int c = 0; c < 4; ++c) corners.product[c][point] = sums[c];
}

// Adds a point's share of the output gradient to the gradients of its four neighbours.
template <typename Real>
SEGZOO_FORCE_INLINE void scatter(const Real* gradient, const Corners<Real>& corners, int point, long pitch,
                                 Real* grad_values) {
  for (int c = 0; c < 4; ++c) {
    const Vector<Real> factor = broadcast<Real>(corners.weight[c][point]);
    Real* target = grad_values + static_cast<long>(corners.token[c][point]) * pitch;
    for (long d = 0; d < pitch; d += kLanes<Real>) {
      store<Real>(target + d, load<Real>(target + d) + factor * load<Real>(gradient + d));
    }
  }
}

// The difference of a pair's inner products, of which those outside are 0, weighted along the other side.
template <typename Real>
SEGZOO_FORCE_INLINE Vector<Real> slope(const Pair<Real>& along, const Pair<Real>& across, Vector<Real> low_first,
                                       Vector<Real> high_first, Vector<Real> low_second, Vector<Real> high_second) {
  const Vector<Real> none{};
  return across.share[0] * ((along.inside[1] ? high_first : none) - (along.inside[0] ? low_first : none)) +
         across.share[1] * ((along.inside[1] ? high_second : none) - (along.inside[0] ? low_second : none));
}

// Points of consecutive queries, as many as there are lanes: `queries` of them with `points` each.
template <typename Real>
struct Block {
  long first;   // place in the tensors of the first query's first point
  long stride;  // from a query's points to the next one's
  int queries, points;

  // Announces the same points of the queries that come so many blocks later.
  void fetch_later(const Problem& problem, int blocks) const {
    for (int query = 0; query < queries; ++query) {
      const long place = first + (blocks * queries + query) * stride;
      fetch(static_cast<const Real*>(problem.locations) + 2 * place, 2 * points);
      fetch(static_cast<const Real*>(problem.weights) + place, points);
    }
  }

  // The numbers of all lanes, where they are or copied to `row`.
  const Real* gather(const void* tensor, int numbers, Real* row) const {
    const Real* own = static_cast<const Real*>(tensor) + first * numbers;
    if (points == kLanes<Real>) return own;
    for (int query = 0; query < queries; ++query, own += stride * numbers) {
      std::copy(own, own + points * numbers, row + query * points * numbers);
    }
    return row;
  }

  void scatter(const Real* row, int numbers, void* tensor) const {
    Real* own = static_cast<Real*>(tensor) + first * numbers;
    for (int query = 0; query < queries; ++query, row += points * numbers, own += stride * numbers) {
      std::copy(row, row + points * numbers, own);
    }
  }
};

// A block of points on one level: adds to the gradient of the level's values, writes those of locations and weights.
// `gradients` has the output's gradient of each query.
template <typename Real>
SEGZOO_FORCE_INLINE void differentiate(const Problem& problem, const Sides<Real>& sides, const Block<Real>& block,
                                       const Real* gradients, const Real* values, Real* grad_values) {
  constexpr int lanes = kLanes<Real>;
  const long pitch = padded<Real>(problem.head_dim);
  const Vector<Real> none{};
  Real pairs[2 * lanes] = {}, own[lanes] = {};
  const auto around = Neighbours<Real>::find(block.gather(problem.locations, 2, pairs), sides);
  const Vector<Real> weights = load<Real>(block.gather(problem.weights, 1, own));
  const Mask<Real> near = around.near();
  Corners<Real> corners;
  typename Types<Real>::Integer kept[lanes];
  __builtin_memcpy(kept, &near, sizeof near);
  for (int c = 0; c < 4; ++c) {
    const Mask<Real> token = around.token(c);
    __builtin_memcpy(corners.token[c], &token, sizeof token);
    store<Real>(corners.weight[c], weights * around.share(c));
    store<Real>(corners.product[c], none);
  }
  for (int query = 0, lane = 0; query < block.queries; ++query, gradients += pitch) {
    for (int point = 0; point < block.points; ++point, ++lane) {
      if (!kept[lane]) continue;
      multiply(gradients, values, pitch, lane, corners);
      scatter(gradients, corners, lane, pitch, grad_values);
    }
  }
  Vector<Real> product[4], grad_weight{};
  for (int c = 0; c < 4; ++c) {
    product[c] = load<Real>(corners.product[c]);
    grad_weight += around.share(c) * product[c];
  }
  const Vector<Real> x = weights * sides.width *
                         slope<Real>(around.column, around.row, product[0], product[1], product[2], product[3]);
  const Vector<Real> y = weights * sides.height *
                         slope<Real>(around.row, around.column, product[0], product[2], product[1], product[3]);
  join_pairs<Real>(near ? x : none, near ? y : none, pairs);
  store<Real>(own, near ? grad_weight : none);
  block.scatter(pairs, 2, problem.grad_locations);
  block.scatter(own, 1, problem.grad_weights);
}

template <typename Real>
void backward(const Problem& problem, long unit, Real* scratch) {
  constexpr long lanes = kLanes<Real>;
  const long index = unit % problem.level_count, head = unit / problem.level_count % problem.heads;
  const long batch = unit / problem.level_count / problem.heads;
  const Level& level = problem.levels[index];
  const long dim = problem.head_dim, pitch = padded<Real>(dim), points = problem.points;
  const long map = (batch * problem.heads + head) * problem.tokens * pitch;
  const Real* values = static_cast<const Real*>(problem.packed_value) + map;
  Real* grad_values = static_cast<Real*>(problem.packed_grad) + map;
  Real* grad_level = grad_values + level.start * pitch;
  std::fill(grad_level, grad_level + level.height * level.width * pitch, static_cast<Real>(0));
  Sides<Real> sides;
  for (int lane = 0; lane < lanes; ++lane) sides.set(lane, level);
  const long together = std::max(1L, lanes / std::max(1L, points));
  const long stride = problem.heads * problem.level_count * points;
  std::fill(scratch, scratch + together * pitch, static_cast<Real>(0));
  for (long query = 0; query < problem.queries; query += together) {
    const int queries = static_cast<int>(std::min(together, problem.queries - query));
    const long number = (batch * problem.queries + query) * problem.heads + head;
    for (int i = 0; i < queries; ++i) {
      const Real* gradient = static_cast<const Real*>(problem.grad_output) + (number + i * problem.heads) * dim;
      std::copy(gradient, gradient + dim, scratch + i * pitch);
    }
    const long first = (number * problem.level_count + index) * points;
    for (long point = 0; point < points; point += lanes) {
      const int count = static_cast<int>(std::min(points - point, lanes));
      const Block<Real> block{first + point, stride, queries, count};
      if (query + 3 * together <= problem.queries) block.fetch_later(problem, 2);
      differentiate<Real>(problem, sides, block, scratch, values, grad_values);
    }
  }
}

template <typename Real>
long backward_scratch(const Problem& problem) {
  return kLanes<Real> * padded<Real>(problem.head_dim);
}

}  // namespace
