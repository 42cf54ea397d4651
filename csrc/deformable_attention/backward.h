// Backward: a unit is one level of one head of one image, and nobody else writes to its gradients.
#pragma once

#include <algorithm>

#include "sample.h"

namespace {

using segzoo::Problem;

// The products of a query's output gradient with the four neighbours' values.
template <typename Real>
SEGZOO_FORCE_INLINE void products(const Real* gradient, const Real* const corner[4], long width, Real dot[4]) {
  Vector<Real> sum[4] = {};
  for (long d = 0; d < width; d += kLanes<Real>) {
    const Vector<Real> part = load<Real>(gradient + d);
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) sum[c] += part * load<Real>(corner[c] + d);
  }
  for (int c = 0; c < 4; ++c) {
    dot[c] = 0;
    for (int lane = 0; lane < kLanes<Real>; ++lane) dot[c] += sum[c][lane];
  }
}

// The difference of a pair's inner products, of which those outside are 0, weighted along the other side.
template <typename Real>
SEGZOO_FORCE_INLINE Real slope(const Pair<Real>& along, Real low_first, Real high_first, Real low_second,
                               Real high_second, const Real share[2]) {
  return share[0] * (along.inside[1] * high_first - along.inside[0] * low_first) +
         share[1] * (along.inside[1] * high_second - along.inside[0] * low_second);
}

// One point: adds to the gradient of the level's values, returns those of location and weight.
template <typename Real>
SEGZOO_FORCE_INLINE void differentiate(const Neighbours<Real>& around, const Level& level, const Real* gradient,
                                       Real weight, const Real* values, Real* grad_values, long width,
                                       Real* grad_location, Real* grad_weight) {
  const Real* corner[4];
  Real dot[4];
  for (int c = 0; c < 4; ++c) corner[c] = values + around.token(c, level) * width;
  products(gradient, corner, width, dot);
  *grad_weight = around.share(0) * dot[0] + around.share(1) * dot[1] + around.share(2) * dot[2] +
                 around.share(3) * dot[3];
  grad_location[0] = weight * static_cast<Real>(level.width) *
                     slope(around.column, dot[0], dot[1], dot[2], dot[3], around.row.share);
  grad_location[1] = weight * static_cast<Real>(level.height) *
                     slope(around.row, dot[0], dot[2], dot[1], dot[3], around.column.share);
  for (int c = 0; c < 4; ++c) {
    const Vector<Real> factor = broadcast<Real>(weight * around.share(c));
    Real* target = grad_values + around.token(c, level) * width;
    for (long d = 0; d < width; d += kLanes<Real>) {
      store<Real>(target + d, load<Real>(target + d) + factor * load<Real>(gradient + d));
    }
  }
}

template <typename Real>
void backward(const Problem& problem, long unit, Real* scratch) {
  const long index = unit % problem.level_count, head = unit / problem.level_count % problem.heads;
  const long batch = unit / problem.level_count / problem.heads;
  const Level& level = problem.levels[index];
  const long width = padded<Real>(problem.head_dim), points = problem.points;
  const long map = ((batch * problem.heads + head) * problem.tokens + level.start) * width;
  const Real* values = static_cast<const Real*>(problem.packed_value) + map;
  Real* grad_values = static_cast<Real*>(problem.packed_grad) + map;
  std::fill(grad_values, grad_values + level.height * level.width * width, static_cast<Real>(0));
  std::fill(scratch, scratch + width, static_cast<Real>(0));
  for (long query = 0; query < problem.queries; ++query) {
    const long number = (batch * problem.queries + query) * problem.heads + head;
    const Real* gradient = static_cast<const Real*>(problem.grad_output) + number * problem.head_dim;
    std::copy(gradient, gradient + problem.head_dim, scratch);
    const long first = (number * problem.level_count + index) * points;
    for (long place = first; place < first + points; ++place) {
      Real* grad_location = static_cast<Real*>(problem.grad_locations) + 2 * place;
      Real* grad_weight = static_cast<Real*>(problem.grad_weights) + place;
      Neighbours<Real> around;
      if (around.find(static_cast<const Real*>(problem.locations) + 2 * place, level)) {
        differentiate(around, level, scratch, static_cast<const Real*>(problem.weights)[place], values, grad_values,
                      width, grad_location, grad_weight);
      } else {
        grad_location[0] = grad_location[1] = *grad_weight = 0;
      }
    }
  }
}

}  // namespace
