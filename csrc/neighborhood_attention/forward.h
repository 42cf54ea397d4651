// Forward: logits, softmax and weighted values of a group of query rows, never written out.
#pragma once

#include "sweep.h"

namespace {

template <typename Real>
struct ForwardScratch {
  Ring<Real> keys, values;
  Real *bias, *queries, *scores, *inverse;
  KeyRows<Real> key_rows;

  ForwardScratch(Arena<Real> arena, const Problem& problem, long* size)
      : keys(arena, problem, true, false), values(arena, problem, false, true), key_rows(arena, problem) {
    const long tile = kGroupRows * kLanes<Real>, kernel = problem.kernel;
    bias = arena.take(kStripTiles * bias_size(problem, kLanes<Real>));
    queries = arena.take(tile * problem.head_dim);
    scores = arena.take(tile * kernel * kernel);
    inverse = arena.take(tile);
    if (size) *size = arena.used;
  }
};

// The natural logarithm of the softmax denominator, from the highest logit (in units of log 2) and the sum.
template <typename Real>
SEGZOO_FORCE_INLINE Vector<Real> logsumexp_of(Vector<Real> highest, Vector<Real> total) {
  if constexpr (std::is_same_v<Real, float>) {
    return (highest + log2_of(total)) * static_cast<float>(1 / kLog2E);
  } else {
    Vector<Real> result{};
    for (int lane = 0; lane < kLanes<Real>; ++lane) {
      result[lane] = highest[lane] / kLog2E + __builtin_log(total[lane]);
    }
    return result;
  }
}

// Turns logits (in units of log 2) into exp(logit - maximum). Writes the inverse of their sum and the
// logarithm of the softmax denominator.
template <typename Real>
void softmax(Real* scores, long taps, Real* inverse, Real* logsumexp) {
  constexpr int lanes = kLanes<Real>;
  // `taps` is odd; two maxima, so that each need not wait for the one before
  Vector<Real> highest = load<Real>(scores), other = highest;
  for (long t = 1; t < taps; t += 2) {
    const Vector<Real> score = load<Real>(scores + t * lanes), next = load<Real>(scores + (t + 1) * lanes);
    highest = score > highest ? score : highest;
    other = next > other ? next : other;
  }
  highest = other > highest ? other : highest;
  Vector<Real> total{};
#pragma GCC unroll 4
  for (long t = 0; t < taps; ++t) {
    const Vector<Real> weight = exp2_of<Real>(load<Real>(scores + t * lanes) - highest);
    store<Real>(scores + t * lanes, weight);
    total += weight;
  }
  store<Real>(inverse, 1 / total);
  store<Real>(logsumexp, logsumexp_of<Real>(highest, total));
}

template <typename Real, typename Stored>
void forward_group(const Problem& problem, const Unit& unit, const Group& group, const TileView<Real>& view,
                   const ForwardScratch<Real>& scratch, Ahead& ahead) {
  constexpr int lanes = kLanes<Real>;
  const long taps = problem.kernel * problem.kernel;
  const Real factor = static_cast<Real>(problem.scale * kLog2E);
  pack_group<Real, Stored>(problem, problem.query, unit, group, view.tile, factor, scratch.queries);
  score_group<Real>(problem, group, view, view.bias, scratch.keys, scratch.queries, scratch.scores, ahead);
  Real* logsumexp = static_cast<Real*>(problem.logsumexp);
  for (int i = 0; i < group.count; ++i) {
    Real lane_logsumexp[lanes];
    softmax<Real>(scratch.scores + i * taps * lanes, taps, scratch.inverse + i * lanes, lane_logsumexp);
    const long line = (unit.batch * problem.height + unit.row(problem, group.first + i)) * problem.width;
    for (int lane = 0; lane < view.tile.count; ++lane) {
      const long token = line + problem.column_of_place[view.tile.first + lane];
      logsumexp[token * problem.heads + unit.head] = lane_logsumexp[lane];
    }
  }
  gather_group<Real, Stored>(problem, unit, group, view, scratch.values, scratch.scores, scratch.inverse,
                             scratch.key_rows.values, problem.output);
}

template <typename Real, typename Stored>
void forward(const Problem& problem, long number, Real* memory) {
  const ForwardScratch<Real> scratch({memory}, problem, nullptr);
  // the heads of one strip follow each other, because they lie on the same pages of memory
  const long parts = problem.dilation * problem.bands, head = number % problem.heads;
  number /= problem.heads;
  const Strip& strip = problem.strips[number % problem.strip_count];
  number /= problem.strip_count;
  const Unit unit(problem, (number / parts * problem.heads + head) * parts + number % parts);
  const long size = bias_size(problem, kLanes<Real>);
  for (int i = 0; problem.bias && i < strip.tile_count; ++i) {
    spread_bias<Real>(problem, problem.tiles[strip.first_tile + i], unit.head, scratch.bias + i * size);
  }
  long filled = unit.key_begin;
  for (long rank = unit.begin; rank < unit.end; rank += kGroupRows) {
    Group group(problem, unit, rank);
    group.list_keys(problem, scratch.key_rows.rows);
    for (; filled < group.key_end; ++filled) {
      const KeyRow& key = group.keys[filled - group.key_begin];
      scratch.keys.template fill<Stored>(problem, problem.key, unit, strip, key);
      scratch.values.template fill<Stored>(problem, problem.value, unit, strip, key);
    }
    Ahead ahead;
    look_ahead<Stored>(problem, unit, group, strip, {problem.key, problem.value},
                       {problem.query, contiguous(problem, problem.output)}, ahead);
    for (int i = 0; i < strip.tile_count; ++i) {
      const Real* bias = problem.bias ? scratch.bias + i * size : nullptr;
      const TileView<Real> view(problem.tiles[strip.first_tile + i], strip, bias);
      forward_group<Real, Stored>(problem, unit, group, view, scratch, ahead);
    }
  }
}

template <typename Real>
long forward_scratch(const Problem& problem) {
  long size;
  ForwardScratch<Real>({nullptr}, problem, &size);
  return size;
}

}  // namespace
