// The rival of the fused neighborhood attention: one dot product per query-key pair, vectorised over the head
// dimension, unfused. Logits are written out, softmax is a step of its own, and the weighted values a third.
//
// Tensors are contiguous with the heads first, [batch, heads, height, width, head_dim], which a caller with a
// fused projection would have to copy for; the copies are not charged to the rival.
#pragma once

#include <algorithm>
#include <utility>

#include "../../csrc/shared/simd.h"
#include "rivals.h"

namespace {

using segzoo_rivals::Neighborhood;

template <typename Real, int Step, int... Lane>
SEGZOO_FORCE_INLINE Vector<Real> exchange(Vector<Real> value, std::integer_sequence<int, Lane...>) {
  return permute<Real>(value, Mask<Real>{(Lane ^ Step)...});
}

// The sum of a vector's lanes, halving it log2(lanes) times.
template <typename Real, int Step = kLanes<Real> / 2>
SEGZOO_FORCE_INLINE Real sum_of_lanes(Vector<Real> value) {
  if constexpr (Step == 0) {
    return value[0];
  } else {
    value += exchange<Real, Step>(value, std::make_integer_sequence<int, kLanes<Real>>{});
    return sum_of_lanes<Real, Step / 2>(value);
  }
}

// First position that a query attends to on an axis: centred, shifted inwards at a border.
inline long window_start(long position, long length, long kernel) {
  return std::clamp(position - kernel / 2, 0L, length - kernel);
}

// Calls work(row, column, first neighbour's row, first neighbour's column) for every query of a plane's row.
template <typename Work>
SEGZOO_FORCE_INLINE void for_queries(const Neighborhood& problem, long row, const Work& work) {
  const long row_start = window_start(row, problem.height, problem.kernel);
  for (long column = 0; column < problem.width; ++column) {
    work(column, row_start, window_start(column, problem.width, problem.kernel));
  }
}

// logits[query][row tap][column tap] = scaled query . key + bias, for one row of one head.
template <int Parts>
void logits_of(const Neighborhood& problem, long plane, long row) {
  constexpr long lanes = kLanes<float>, dim = Parts * lanes;
  const long kernel = problem.kernel, table = 2 * kernel - 1, pixels = problem.height * problem.width;
  const float* queries = problem.query + plane * pixels * dim;
  const float* keys = problem.key + plane * pixels * dim;
  const float* bias = problem.bias + plane % problem.heads * table * table;
  for_queries(problem, row, [&](long column, long row_start, long column_start) {
    const long place = row * problem.width + column;
    float* logit = problem.logits + (plane * pixels + place) * kernel * kernel;
    Vector<float> query[Parts];
    for (int part = 0; part < Parts; ++part) {
      query[part] = load<float>(queries + place * dim + part * lanes) * problem.scale;
    }
    for (long i = 0; i < kernel; ++i) {
      const float* key = keys + ((row_start + i) * problem.width + column_start) * dim;
      const float* entry = bias + (row_start + i - row + kernel - 1) * table + column_start - column + kernel - 1;
      for (long j = 0; j < kernel; ++j, key += dim) {
        Vector<float> sum = query[0] * load<float>(key);
        for (int part = 1; part < Parts; ++part) sum += query[part] * load<float>(key + part * lanes);
        *logit++ = sum_of_lanes<float>(sum) + entry[j];
      }
    }
  });
}

// output[query] = sum over taps of weight * value, for one row of one head.
template <int Parts>
void values_of(const Neighborhood& problem, long plane, long row) {
  constexpr long lanes = kLanes<float>, dim = Parts * lanes;
  const long kernel = problem.kernel, pixels = problem.height * problem.width;
  const float* values = problem.value + plane * pixels * dim;
  for_queries(problem, row, [&](long column, long row_start, long column_start) {
    const long place = row * problem.width + column;
    const float* weight = problem.logits + (plane * pixels + place) * kernel * kernel;
    Vector<float> sum[Parts] = {};
    for (long i = 0; i < kernel; ++i) {
      const float* value = values + ((row_start + i) * problem.width + column_start) * dim;
      for (long j = 0; j < kernel; ++j, value += dim, ++weight) {
        for (int part = 0; part < Parts; ++part) {
          sum[part] += broadcast<float>(*weight) * load<float>(value + part * lanes);
        }
      }
    }
    for (int part = 0; part < Parts; ++part) {
      store<float>(problem.output + (plane * pixels + place) * dim + part * lanes, sum[part]);
    }
  });
}

}  // namespace
