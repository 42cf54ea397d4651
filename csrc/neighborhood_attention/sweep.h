// What forward and backward share: a unit of work, its scratch memory, and the logits of a group of rows.
#pragma once

#include <initializer_list>

#include "pack.h"
#include "problem.h"
#include "products.h"
#include "window.h"

namespace {

using segzoo::kGroupRows;
using segzoo::kStripTiles;
using segzoo::Problem;
using segzoo::Strip;
using segzoo::Tile;

constexpr double kLog2E = 1.4426950408889634;

// The elements of Arena that hold the sources of a group's gathering.
template <typename Real>
long sources_size(const Problem& problem) {
  return (problem.kernel + kGroupRows - 1) * static_cast<long>(sizeof(Source<Real>) / sizeof(Real) + 1);
}

template <typename Real>
void fill(Real* target, long count, Real value) {
  for (long i = 0; i < count; ++i) target[i] = value;
}

// Hands out pieces of one allocation; with a null base it only counts.
template <typename Real>
struct Arena {
  Real* base;
  long used = 0;

  Real* take(long count) {
    Real* piece = base ? base + used : nullptr;
    used += (count + 15) / 16 * 16;
    return piece;
  }
};

// A band of query rows of one residue class, one head, one image. Rows are ranks in the class.
struct Unit {
  long band, residue, head, batch;
  long rows, begin, end;      // ranks in the class, and this band's part of them
  long key_begin, key_end;    // the rows of keys that the band attends to

  Unit(const Problem& problem, long number) {
    band = number % problem.bands;
    number /= problem.bands;
    residue = number % problem.dilation;
    number /= problem.dilation;
    head = number % problem.heads;
    batch = number / problem.heads;
    rows = segzoo::class_length(problem.height, residue, problem.dilation);
    begin = rows * band / problem.bands;
    end = rows * (band + 1) / problem.bands;
    key_begin = segzoo::window_start(begin, rows, problem.kernel);
    key_end = segzoo::window_start(end - 1, rows, problem.kernel) + problem.kernel;
  }

  long row(const Problem& problem, long rank) const { return residue + rank * problem.dilation; }
};

// Up to kGroupRows rows of queries that are worked on together.
struct Group {
  long first;
  int count;
  long start[kGroupRows];  // first key rank of each row's window
  long key_begin, key_end;

  Group(const Problem& problem, const Unit& unit, long first_rank) : first(first_rank) {
    const long left = unit.end - first_rank;
    count = left < kGroupRows ? static_cast<int>(left) : kGroupRows;
    for (int i = 0; i < count; ++i) {
      start[i] = segzoo::window_start(first + i, unit.rows, problem.kernel);
    }
    key_begin = start[0];
    key_end = start[count - 1] + problem.kernel;
  }

  // The rows whose windows hold the row of keys `key`: [from, to), without a gap.
  void rows_of(long key, long kernel, int* from, int* to) const {
    *from = 0;
    while (start[*from] + kernel <= key) ++*from;
    *to = count;
    while (start[*to - 1] > key) --*to;
  }
};

// One tile with its lane permutation and the bias of every (row of the table, tap).
template <typename Real>
struct TileView {
  const Tile& tile;
  long key_place;  // of the tile's first key in the strip
  Mask<Real> order;
  const Real* bias;  // [2 * kernel - 1][kernel][lanes], in units of log 2; or null

  TileView(const Tile& tile, const Strip& strip, const Real* bias)
      : tile(tile), key_place(tile.first_key - strip.first_key), bias(bias) {
    for (int lane = 0; lane < kLanes<Real>; ++lane) order[lane] = tile.key_offset[lane];
  }
};

inline long bias_size(const Problem& problem, long lanes) {
  return (2 * problem.kernel - 1) * problem.kernel * lanes;
}

// The bias of one tile, a vector for every row of the table and tap.
template <typename Real>
void spread_bias(const Problem& problem, const Tile& tile, long head, Real* target) {
  const long table = 2 * problem.kernel - 1;
  const Real* entry = static_cast<const Real*>(problem.bias) + head * table * table;
  for (long row = 0; row < table; ++row, entry += table) {
    for (long tap = 0; tap < problem.kernel; ++tap) {
      for (int lane = 0; lane < kLanes<Real>; ++lane, ++target) {
        *target = entry[tile.bias_offset[lane] + tap] * static_cast<Real>(kLog2E);
      }
    }
  }
}

// A ring of rows of keys (or values) of one strip in two layouts: by columns [head_dim][pitch] for the
// products over the head dimension, by rows [place][padded head_dim] for the others. Either may be absent.
template <typename Real>
struct Ring {
  long slots, places, pitch, width, head_dim;
  Real* columns;
  Real* rows;

  // A tile may load a whole vector at its last tap, hence the lanes beyond the keys.
  Ring(Arena<Real>& arena, const Problem& problem, bool with_columns, bool with_rows)
      : slots(problem.kernel + kGroupRows - 1),
        places(problem.strip_keys),
        pitch(padded<Real>(places + kLanes<Real> - 1)),
        width(padded<Real>(problem.head_dim)),
        head_dim(problem.head_dim),
        columns(with_columns ? arena.take(slots * head_dim * pitch) : nullptr),
        rows(with_rows ? arena.take(slots * places * width) : nullptr) {}

  Real* columns_of(long key) const { return columns + key % slots * head_dim * pitch; }
  Real* rows_of(long key) const { return rows + key % slots * places * width; }

  template <typename Stored>
  void fill(const Problem& problem, const Tokens& tokens, const Unit& unit, const Strip& strip,
            long key) const {
    const Row<Stored> row(problem, tokens, unit.batch, unit.row(problem, key), unit.head);
    if (columns) {
      pack_columns<Real>(row, strip.first_key, strip.key_count, head_dim, 1, pitch, columns_of(key));
    }
    if (rows) pack_rows<Real>(row, strip.first_key, strip.key_count, head_dim, 1, rows_of(key));
  }
};

// Announces what the next group of query rows will read: its queries, and keys that are not in the ring yet.
template <typename Stored>
void look_ahead(const Problem& problem, const Unit& unit, const Group& group, const Strip& strip,
                std::initializer_list<const Tokens*> of_queries, std::initializer_list<const Tokens*> of_keys,
                Ahead<Stored>& ahead) {
  const long next = group.first + group.count;
  if (next >= unit.end) return;
  const Group after(problem, unit, next);
  const Tile& first = problem.tiles[strip.first_tile];
  const Tile& last = problem.tiles[strip.first_tile + strip.tile_count - 1];
  const auto add = [&](const Tokens& tokens, long rank, long place, long count) {
    ahead.add({problem, tokens, unit.batch, unit.row(problem, rank), unit.head}, place, count);
  };
  for (const Tokens* tokens : of_queries) {
    for (int i = 0; i < after.count; ++i) add(*tokens, next + i, first.first, last.first + last.count - first.first);
  }
  for (const Tokens* tokens : of_keys) {
    for (long key = group.key_end; key < after.key_end; ++key) add(*tokens, key, strip.first_key, strip.key_count);
  }
  ahead.share_among(strip.tile_count * (group.key_end - group.key_begin));
}

// target[d][row][lane] = factor * queries of the group
template <typename Real, typename Stored>
void pack_group(const Problem& problem, const Tokens& tokens, const Unit& unit, const Group& group,
                const Tile& tile, Real factor, Real* target) {
  for (int i = 0; i < group.count; ++i) {
    const Row<Stored> row(problem, tokens, unit.batch, unit.row(problem, group.first + i), unit.head);
    pack_columns<Real>(row, tile.first, tile.count, problem.head_dim, factor, kGroupRows * kLanes<Real>,
                       target + i * kLanes<Real>);
  }
}

// scores[row][row tap][column tap][lane] of a group: products with the keys in the ring, plus the bias.
template <typename Real, typename Stored>
void score_group(const Problem& problem, const Group& group, const TileView<Real>& view, const Real* bias,
                 const Ring<Real>& ring, const Real* queries, Real* scores, Ahead<Stored>& ahead) {
  const long kernel = problem.kernel, line = kernel * kLanes<Real>;
  for (long key = group.key_begin; key < group.key_end; ++key) {
    ahead.step();
    int from, to;
    group.rows_of(key, kernel, &from, &to);
    const Real* initial[kGroupRows];
    Real* target[kGroupRows];
    for (int i = from; i < to; ++i) {
      target[i - from] = scores + (i * kernel + key - group.start[i]) * line;
      if (bias) initial[i - from] = bias + segzoo::bias_index(group.first + i, key, kernel) * line;
    }
    const auto score = view.tile.shifted ? score_rows<Real, true> : score_rows<Real, false>;
    score(to - from, ring.columns_of(key) + view.key_place, ring.pitch, queries + from * kLanes<Real>,
          problem.head_dim, view.order, bias ? initial : nullptr, target, kernel);
  }
}

// target[row][lane][d] = factor[row][lane] * sum of weights * the rows in the ring, over the neighbourhoods of a
// group; `target` is a contiguous [batch, height, width, heads, head_dim].
template <typename Real, typename Stored>
void gather_group(const Problem& problem, const Unit& unit, const Group& group, const TileView<Real>& view,
                  const Ring<Real>& ring, const Real* weights, const Real* factor, Source<Real>* sources,
                  void* target) {
  constexpr int lanes = kLanes<Real>;
  const long kernel = problem.kernel, dim = problem.head_dim, token = problem.heads * dim;
  int count = 0;
  const Real* weight[kGroupRows];
  Stored* line[kGroupRows];
  for (int i = 0; i < group.count; ++i) {
    weight[i] = weights + (i * kernel - group.start[i]) * kernel * lanes;
    const long row = unit.batch * problem.height + unit.row(problem, group.first + i);
    line[i] = static_cast<Stored*>(target) + row * problem.width * token + unit.head * dim;
  }
  for (long key = group.key_begin; key < group.key_end; ++key, ++count) {
    Source<Real>& source = sources[count];
    source.values = ring.rows_of(key) + view.key_place * ring.width;
    source.key = key;
    group.rows_of(key, kernel, &source.from, &source.to);
  }
  const int* columns = problem.column_of_place + view.tile.first;
  const auto write = [&](int row, int lane, long d, Vector<Real> sum) SEGZOO_INLINE_LAMBDA {
    sum *= broadcast<Real>(factor[row * lanes + lane]);
    Stored* out = line[row] + columns[lane] * token + d;
    if (d + lanes <= dim) return store_narrow<Real>(out, sum);
    for (long i = 0; i < dim - d; ++i) out[i] = narrowed<Stored, Real>(sum[i]);
  };
  long d = 0;
  for (; d + 2 * lanes <= ring.width; d += 2 * lanes) {
    gather_part<Real, 2>(view.tile, kernel, sources, count, weight, group.count, ring.width, d, write);
  }
  if (d < ring.width) {
    gather_part<Real, 1>(view.tile, kernel, sources, count, weight, group.count, ring.width, d, write);
  }
}

}  // namespace
