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
  const KeyRow* keys = nullptr;  // [key_end - key_begin]

  Group(const Problem& problem, const Unit& unit, long first_rank) : first(first_rank) {
    const long left = unit.end - first_rank;
    count = left < kGroupRows ? static_cast<int>(left) : kGroupRows;
    for (int i = 0; i < count; ++i) {
      start[i] = segzoo::window_start(first + i, unit.rows, problem.kernel);
    }
    key_begin = start[0];
    key_end = start[count - 1] + problem.kernel;
  }

  // Lists the rows of keys in `memory`, for all the tiles.
  void list_keys(const Problem& problem, KeyRow* memory) {
    const long slots = problem.kernel + kGroupRows - 1;
    keys = memory;
    for (long key = key_begin; key < key_end; ++key, ++memory) {
      int from = 0, to = count;
      while (start[from] + problem.kernel <= key) ++from;
      while (start[to - 1] > key) --to;
      *memory = {key, key % slots, from, to};
    }
  }
};

// What is known of every row of keys of a group.
template <typename Real>
struct KeyRows {
  KeyRow* rows;
  const Real** values;  // pointers into a ring, for gather_group

  KeyRows(Arena<Real>& arena, const Problem& problem) {
    const long count = problem.kernel + kGroupRows - 1;
    rows = reinterpret_cast<KeyRow*>(arena.take(elements<KeyRow>(count)));
    values = reinterpret_cast<const Real**>(arena.take(elements<Real*>(count)));
  }

 private:
  template <typename Item>
  static long elements(long count) {
    return (count * static_cast<long>(sizeof(Item)) + static_cast<long>(sizeof(Real)) - 1) /
           static_cast<long>(sizeof(Real));
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

  Real* columns_of(const KeyRow& key) const { return columns + key.slot * head_dim * pitch; }
  Real* rows_of(const KeyRow& key) const { return rows + key.slot * places * width; }

  template <typename Stored>
  void fill(const Problem& problem, const Tokens& tokens, const Unit& unit, const Strip& strip,
            const KeyRow& key) const {
    const Row<Stored> row(problem, tokens, unit.batch, unit.row(problem, key.rank), unit.head);
    if (columns) {
      pack_columns<Real>(row, strip.first_key, strip.key_count, head_dim, 1, pitch, columns_of(key));
    }
    if (rows) pack_rows<Real>(row, strip.first_key, strip.key_count, head_dim, 1, rows_of(key));
  }
};

// The tokens of a contiguous [batch, height, width, heads, head_dim] result.
inline Tokens contiguous(const Problem& problem, const void* data) {
  const long token = problem.heads * problem.head_dim, row = problem.width * token;
  return {data, problem.height * row, row, token, problem.head_dim, 1};
}

// Announces what the next group of query rows will read or write: keys that are not in the ring yet, and tokens of
// its queries.
template <typename Stored>
void look_ahead(const Problem& problem, const Unit& unit, const Group& group, const Strip& strip,
                std::initializer_list<Tokens> of_keys, std::initializer_list<Tokens> of_queries,
                Ahead& ahead) {
  const long next = group.first + group.count;
  if (next >= unit.end) return;
  const Group after(problem, unit, next);
  const Tile& first = problem.tiles[strip.first_tile];
  const Tile& last = problem.tiles[strip.first_tile + strip.tile_count - 1];
  const auto add = [&](const Tokens& tokens, long rank, long place, long count) {
    const Row<Stored> row(problem, tokens, unit.batch, unit.row(problem, rank), unit.head);
    ahead.add(row, place, count, problem.head_dim);
  };
  for (const Tokens& tokens : of_keys) {
    for (long key = group.key_end; key < after.key_end; ++key) add(tokens, key, strip.first_key, strip.key_count);
  }
  for (const Tokens& tokens : of_queries) {
    for (int i = 0; i < after.count; ++i) add(tokens, next + i, first.first, last.first + last.count - first.first);
  }
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
template <typename Real>
void score_group(const Problem& problem, const Group& group, const TileView<Real>& view, const Real* bias,
                 const Ring<Real>& ring, const Real* queries, Real* scores, Ahead& ahead) {
  const long kernel = problem.kernel, line = kernel * kLanes<Real>;
  for (long k = 0; k < group.key_end - group.key_begin; ++k) {
    const KeyRow& key = group.keys[k];
    const Real* initial[kGroupRows];
    Real* target[kGroupRows];
    for (int i = key.from; i < key.to; ++i) {
      target[i - key.from] = scores + (i * kernel + key.rank - group.start[i]) * line;
      if (bias) initial[i - key.from] = bias + segzoo::bias_index(group.first + i, key.rank, kernel) * line;
    }
    const auto score = view.tile.shifted ? score_rows<Real, true> : score_rows<Real, false>;
    score(key.to - key.from, ring.columns_of(key) + view.key_place, ring.pitch, queries + key.from * kLanes<Real>,
          problem.head_dim, view.order, bias ? initial : nullptr, target, kernel, ahead);
  }
}

// target[row][lane][d] = factor[row][lane] * sum of weights * the rows in the ring, over the neighbourhoods of a
// group; `target` is a contiguous [batch, height, width, heads, head_dim].
template <typename Real, typename Stored>
__attribute__((noinline)) void gather_group(const Problem& problem, const Unit& unit, const Group& group,
                                            const TileView<Real>& view, const Ring<Real>& ring, const Real* weights,
                                            const Real* factor, const Real** values, void* target) {
  constexpr int lanes = kLanes<Real>;
  const long kernel = problem.kernel, dim = problem.head_dim, token = problem.heads * dim;
  const Real* weight[kGroupRows];
  Stored* line[kGroupRows];
  for (int i = 0; i < group.count; ++i) {
    weight[i] = weights + (i * kernel - group.start[i]) * kernel * lanes;
    const long row = unit.batch * problem.height + unit.row(problem, group.first + i);
    line[i] = static_cast<Stored*>(target) + row * problem.width * token + unit.head * dim;
  }
  const int count = static_cast<int>(group.key_end - group.key_begin);
  for (int k = 0; k < count; ++k) values[k] = ring.rows_of(group.keys[k]) + view.key_place * ring.width;
  const int* columns = problem.column_of_place + view.tile.first;
  const auto write = [&](int row, int lane, long d, Vector<Real> sum) SEGZOO_INLINE_LAMBDA {
    sum *= broadcast<Real>(factor[row * lanes + lane]);
    Stored* out = line[row] + columns[lane] * token + d;
    if (d + lanes <= dim) return store_narrow<Real>(out, sum);
    for (long i = 0; i < dim - d; ++i) out[i] = narrowed<Stored, Real>(sum[i]);
  };
  long d = 0;
  for (; d + 2 * lanes <= ring.width; d += 2 * lanes) {
    gather_part<Real, 2>(view.tile, kernel, group.keys, count, values, weight, group.count, ring.width, d, write);
  }
  if (d < ring.width) {
    gather_part<Real, 1>(view.tile, kernel, group.keys, count, values, weight, group.count, ring.width, d, write);
  }
}

}  // namespace
