// Backward: the attention weights again from the logarithm of their sum, then five products a group.
//
// A unit adds the gradients of keys and values to sums of its own; `add_up` joins the units afterwards.
#pragma once

#include "sweep.h"

namespace {

template <typename Real>
struct BackwardScratch {
  Ring<Real> keys, values;
  Real *bias, *grad_bias, *queries, *query_rows, *grads, *grad_rows;
  Real *weights, *grad_weights, *factor, *logsumexp, *row_sum;
  KeyRows<Real> key_rows;

  BackwardScratch(Arena<Real> arena, const Problem& problem, long* size)
      : keys(arena, problem, true, true), values(arena, problem, true, false), key_rows(arena, problem) {
    const long tile = kGroupRows * kLanes<Real>, kernel = problem.kernel;
    bias = arena.take(kStripTiles * bias_size(problem, kLanes<Real>));
    grad_bias = arena.take(kStripTiles * bias_size(problem, kLanes<Real>));
    queries = arena.take(tile * problem.head_dim);
    grads = arena.take(tile * problem.head_dim);
    query_rows = arena.take(tile * keys.width);
    grad_rows = arena.take(tile * keys.width);
    weights = arena.take(tile * kernel * kernel);
    grad_weights = arena.take(tile * kernel * kernel);
    factor = arena.take(tile);
    logsumexp = arena.take(kLanes<Real>);
    row_sum = arena.take(kLanes<Real>);
    if (size) *size = arena.used;
  }
};

// Per lane of one query row: log2 of the softmax denominator, and sum over d of grad_output * output.
template <typename Real, typename Stored>
void recall(const Problem& problem, const Unit& unit, const Tile& tile, long rank, const Real* grad_rows,
            long width, Real* logsumexp, Real* row_sum) {
  const long line = (unit.batch * problem.height + unit.row(problem, rank)) * problem.width;
  for (int lane = 0; lane < kLanes<Real>; ++lane) {
    // a lane without a query repeats the last one; its weights are set to zero afterwards
    const int active = lane < tile.count ? lane : tile.count - 1;
    const long token = line + problem.column_of_place[tile.first + active];
    const long entry = token * problem.heads + unit.head;
    logsumexp[lane] = static_cast<const Real*>(problem.logsumexp)[entry] * static_cast<Real>(kLog2E);
    const Stored* output = static_cast<const Stored*>(problem.output) + entry * problem.head_dim;
    const Real* grad = grad_rows + active * width;
    Vector<Real> sums{};
    long d = 0;
    for (; d + kLanes<Real> <= problem.head_dim; d += kLanes<Real>) {
      sums += load_wide<Real>(output + d) * load<Real>(grad + d);
    }
    Real sum = 0;
    for (; d < problem.head_dim; ++d) sum += widened<Real>(output[d]) * grad[d];
    for (int i = 0; i < kLanes<Real>; ++i) sum += sums[i];
    row_sum[lane] = sum;
  }
}

// weights: logits -> attention weights; grad_weights: their gradients -> gradients of the logits
template <typename Real, typename Stored>
void logit_gradients(const Problem& problem, const Unit& unit, const Group& group, const Tile& tile,
                     const BackwardScratch<Real>& scratch) {
  constexpr int lanes = kLanes<Real>;
  const long taps = problem.kernel * problem.kernel, width = scratch.keys.width;
  Vector<Real> active{};
  for (int lane = 0; lane < tile.count; ++lane) active[lane] = 1;
  for (int i = 0; i < group.count; ++i) {
    recall<Real, Stored>(problem, unit, tile, group.first + i, scratch.grad_rows + i * lanes * width, width,
                 scratch.logsumexp, scratch.row_sum);
    const Vector<Real> logsumexp = load<Real>(scratch.logsumexp), row_sum = load<Real>(scratch.row_sum);
    Real* weights = scratch.weights + i * taps * lanes;
    Real* grad_weights = scratch.grad_weights + i * taps * lanes;
    for (long t = 0; t < taps; ++t) {
      const Vector<Real> weight = exp2_of<Real>(load<Real>(weights + t * lanes) - logsumexp) * active;
      store<Real>(weights + t * lanes, weight);
      store<Real>(grad_weights + t * lanes, weight * (load<Real>(grad_weights + t * lanes) - row_sum));
    }
  }
}

// grad_bias[row of the table][tap][lane] += gradients of the logits
template <typename Real>
void add_bias_gradient(const Problem& problem, const Group& group, const Real* grad_weights,
                       Real* grad_bias) {
  constexpr int lanes = kLanes<Real>;
  const long kernel = problem.kernel;
  for (int i = 0; i < group.count; ++i) {
    const long entry = segzoo::bias_index(group.first + i, group.start[i], kernel);
    Real* sum = grad_bias + entry * kernel * lanes;
    const Real* grad = grad_weights + i * kernel * kernel * lanes;
    for (long t = 0; t < kernel * kernel * lanes; t += lanes) {
      store<Real>(sum + t, load<Real>(sum + t) + load<Real>(grad + t));
    }
  }
}

// Adds the lanes of a tile to the entries of the table that they looked up.
template <typename Real>
void fold_bias_gradient(const Problem& problem, const Tile& tile, const Real* grad_bias, Real* target) {
  const long kernel = problem.kernel, table = 2 * kernel - 1;
  for (long row = 0; row < table; ++row) {
    for (long tap = 0; tap < kernel; ++tap, grad_bias += kLanes<Real>) {
      for (int lane = 0; lane < tile.count; ++lane) {
        target[row * table + tile.bias_offset[lane] + tap] += grad_bias[lane];
      }
    }
  }
}

// Gradients of the keys and values of a group's neighbourhoods, added to the unit's own sums.
template <typename Real>
void scatter_group(const Problem& problem, const Group& group, const Tile& tile, const Real* weights,
                   const Real* source, Real* unit_sums, long unit_first_key, long width) {
  const long kernel = problem.kernel, line = kernel * kLanes<Real>;
  for (long k = 0; k < group.key_end - group.key_begin; ++k) {
    const KeyRow& key = group.keys[k];
    const Real *weight[kGroupRows], *row[kGroupRows];
    for (int i = key.from; i < key.to; ++i) {
      weight[i - key.from] = weights + (i * kernel + key.rank - group.start[i]) * line;
      row[i - key.from] = source + i * kLanes<Real> * width;
    }
    Real* sums = unit_sums + ((key.rank - unit_first_key) * problem.width + tile.first_key) * width;
    scatter_rows<Real>(key.to - key.from, tile, kernel, weight, row, sums, width);
  }
}

// The unit's own sums that its groups add to.
template <typename Real>
struct UnitGradients {
  Real *key, *value, *bias;
  long size;

  UnitGradients(const Problem& problem, long number, long width)
      : size(problem.unit_key_rows * problem.width * width) {
    const long table = 2 * problem.kernel - 1;
    key = static_cast<Real*>(problem.unit_grad_key) + number * size;
    value = static_cast<Real*>(problem.unit_grad_value) + number * size;
    bias = static_cast<Real*>(problem.unit_grad_bias) + number * table * table;
    fill<Real>(key, size, 0);
    fill<Real>(value, size, 0);
    if (problem.bias) fill<Real>(bias, table * table, 0);
  }
};

template <typename Real, typename Stored>
void pack_queries(const Problem& problem, const Unit& unit, const Group& group, const Tile& tile,
                  const BackwardScratch<Real>& scratch) {
  const long size = kLanes<Real> * scratch.keys.width;
  const Real scale = static_cast<Real>(problem.scale);
  const Real factor = static_cast<Real>(problem.scale * kLog2E);
  pack_group<Real, Stored>(problem, problem.query, unit, group, tile, factor, scratch.queries);
  pack_group<Real, Stored>(problem, problem.grad_output, unit, group, tile, 1, scratch.grads);
  for (int i = 0; i < group.count; ++i) {
    const long row = unit.row(problem, group.first + i);
    const Row<Stored> query(problem, problem.query, unit.batch, row, unit.head);
    const Row<Stored> grad(problem, problem.grad_output, unit.batch, row, unit.head);
    pack_rows<Real>(query, tile.first, tile.count, problem.head_dim, scale, scratch.query_rows + i * size);
    pack_rows<Real>(grad, tile.first, tile.count, problem.head_dim, static_cast<Real>(1),
                    scratch.grad_rows + i * size);
  }
}

template <typename Real, typename Stored>
void backward_group(const Problem& problem, const Unit& unit, const Group& group, const TileView<Real>& view,
                    const BackwardScratch<Real>& scratch, Real* grad_bias, const UnitGradients<Real>& gradients,
                    Ahead& ahead) {
  const Tile& tile = view.tile;
  const long width = scratch.keys.width;
  pack_queries<Real, Stored>(problem, unit, group, tile, scratch);
  score_group<Real>(problem, group, view, view.bias, scratch.keys, scratch.queries, scratch.weights, ahead);
  score_group<Real>(problem, group, view, nullptr, scratch.values, scratch.grads, scratch.grad_weights, ahead);
  logit_gradients<Real, Stored>(problem, unit, group, tile, scratch);
  if (view.bias) add_bias_gradient<Real>(problem, group, scratch.grad_weights, grad_bias);
  gather_group<Real, Stored>(problem, unit, group, view, scratch.keys, scratch.grad_weights, scratch.factor,
                             scratch.key_rows.values, problem.grad_query);
  scatter_group<Real>(problem, group, tile, scratch.grad_weights, scratch.query_rows, gradients.key,
                      unit.key_begin, width);
  scatter_group<Real>(problem, group, tile, scratch.weights, scratch.grad_rows, gradients.value,
                      unit.key_begin, width);
}

template <typename Real, typename Stored>
void backward_strip(const Problem& problem, const Unit& unit, const Strip& strip,
                    const BackwardScratch<Real>& scratch, const UnitGradients<Real>& gradients) {
  const long size = bias_size(problem, kLanes<Real>);
  const Tile* tiles = problem.tiles + strip.first_tile;
  for (int i = 0; problem.bias && i < strip.tile_count; ++i) {
    spread_bias<Real>(problem, tiles[i], unit.head, scratch.bias + i * size);
  }
  fill<Real>(scratch.grad_bias, strip.tile_count * size, 0);
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
                       {problem.query, problem.grad_output}, ahead);
    for (int i = 0; i < strip.tile_count; ++i) {
      const TileView<Real> view(tiles[i], strip, problem.bias ? scratch.bias + i * size : nullptr);
      backward_group<Real, Stored>(problem, unit, group, view, scratch, scratch.grad_bias + i * size, gradients,
                                   ahead);
    }
  }
  for (int i = 0; problem.bias && i < strip.tile_count; ++i) {
    fold_bias_gradient<Real>(problem, tiles[i], scratch.grad_bias + i * size, gradients.bias);
  }
}

template <typename Real, typename Stored>
void backward(const Problem& problem, long number, Real* memory) {
  const BackwardScratch<Real> scratch({memory}, problem, nullptr);
  const Unit unit(problem, number);
  const UnitGradients<Real> gradients(problem, number, scratch.keys.width);
  fill<Real>(scratch.factor, kGroupRows * kLanes<Real>, static_cast<Real>(problem.scale));
  for (long i = 0; i < problem.strip_count; ++i) {
    backward_strip<Real, Stored>(problem, unit, problem.strips[i], scratch, gradients);
  }
}

template <typename Real>
long backward_scratch(const Problem& problem) {
  long size;
  BackwardScratch<Real>({nullptr}, problem, &size);
  return size;
}

// A row of gradients: the sum of the units' parts of it, in their order.
template <typename Real, typename Stored>
void add_row(const Problem& problem, const Real* const* parts, int count, Stored* target) {
  const long width = padded<Real>(problem.head_dim), token = problem.heads * problem.head_dim;
  for (long place = 0; place < problem.width; ++place) {
    Stored* out = target + problem.column_of_place[place] * token;
    for (long d = 0; d < problem.head_dim; d += kLanes<Real>) {
      Vector<Real> sum = load<Real>(parts[0] + place * width + d);
      for (int i = 1; i < count; ++i) sum += load<Real>(parts[i] + place * width + d);
      if (d + kLanes<Real> <= problem.head_dim) {
        store_narrow<Real>(out + d, sum);
      } else {
        for (long i = 0; i < problem.head_dim - d; ++i) out[d + i] = narrowed<Stored, Real>(sum[i]);
      }
    }
  }
}

// Second pass: the gradients of one image row of keys and values, from every unit that touched it.
template <typename Real, typename Stored>
void add_up(const Problem& problem, long number) {
  const long image_row = number % problem.height, batch = number / problem.height;
  const long residue = image_row % problem.dilation, rank = image_row / problem.dilation;
  const long line = problem.width * padded<Real>(problem.head_dim), size = problem.unit_key_rows * line;
  for (long head = 0; head < problem.heads; ++head) {
    const long first_unit = ((batch * problem.heads + head) * problem.dilation + residue) * problem.bands;
    const long target = (number * problem.width * problem.heads + head) * problem.head_dim;
    const Real *keys[segzoo::kMostBands], *values[segzoo::kMostBands];
    int count = 0;
    for (long i = first_unit; i < first_unit + problem.bands; ++i) {
      const Unit unit(problem, i);
      if (rank < unit.key_begin || rank >= unit.key_end) continue;
      const long part = i * size + (rank - unit.key_begin) * line;
      keys[count] = static_cast<const Real*>(problem.unit_grad_key) + part;
      values[count++] = static_cast<const Real*>(problem.unit_grad_value) + part;
    }
    add_row<Real>(problem, keys, count, static_cast<Stored*>(problem.grad_key) + target);
    add_row<Real>(problem, values, count, static_cast<Stored*>(problem.grad_value) + target);
  }
}

}  // namespace
