// Cuts a problem into pieces: columns into tiles and strips, rows into bands.
#pragma once

#include <algorithm>
#include <vector>

#include "problem.h"
#include "window.h"

namespace segzoo {

// Backward: fewer units than this leave cores idle. Their number must not depend on the number of threads,
// because they sum gradients of their own.
constexpr long kBackwardUnits = kMostBands;
// Forward: any cut gives the same bits, so the number of threads decides.
constexpr long kForwardUnitsAThread = 4;
constexpr long kLeastBandRows = 8;

// Places, tiles and strips of the columns. Short residue classes share a vector, whole classes to a tile.
struct Columns {
  std::vector<int> column_of_place;
  std::vector<Tile> tiles;
  std::vector<Strip> strips;
  int strip_keys = 0;

  Columns(long width, long kernel, long dilation, long lanes) {
    for (long residue = 0; residue < dilation; ++residue) {
      for (long column = residue; column < width; column += dilation) {
        column_of_place.push_back(static_cast<int>(column));
      }
    }
    long open = 0;  // lanes still free in the last tile
    for (long residue = 0, first = 0; residue < dilation; ++residue) {
      const long count = segzoo::class_length(width, residue, dilation);
      for (long rank = 0; rank < count; ++rank) {
        if (rank == 0 ? open < count : open == 0) {
          tiles.push_back({});
          tiles.back().first = static_cast<int>(first + rank);
          open = lanes;
        }
        add(tiles.back(), first, rank, count, kernel);
        --open;
      }
      first += count;
    }
    for (Tile& tile : tiles) finish(tile, lanes);
    join();
  }

 private:
  static void add(Tile& tile, long first, long rank, long count, long kernel) {
    const long start = segzoo::window_start(rank, count, kernel);
    if (tile.count == 0) tile.first_key = static_cast<int>(first + start);
    tile.key_offset[tile.count] = static_cast<int>(first + start) - tile.first_key;
    tile.bias_offset[tile.count] = static_cast<int>(segzoo::bias_index(rank, start, kernel));
    tile.key_count = tile.key_offset[tile.count] + static_cast<int>(kernel);
    ++tile.count;
  }

  // Lanes without a query repeat the last one, so that they compute something harmless.
  static void finish(Tile& tile, long lanes) {
    for (long lane = tile.count; lane < lanes; ++lane) {
      tile.key_offset[lane] = tile.key_offset[tile.count - 1];
      tile.bias_offset[lane] = tile.bias_offset[tile.count - 1];
    }
    for (long lane = 0; lane < lanes; ++lane) tile.shifted |= tile.key_offset[lane] != lane;
  }

  // Strips of nearly equal numbers of tiles.
  void join() {
    const int count = static_cast<int>(tiles.size());
    const int parts = (count + segzoo::kStripTiles - 1) / segzoo::kStripTiles;
    for (int part = 0; part < parts; ++part) {
      const int first = count * part / parts, end = count * (part + 1) / parts;
      const int keys = tiles[end - 1].first_key + tiles[end - 1].key_count - tiles[first].first_key;
      strips.push_back({first, end - first, tiles[first].first_key, keys});
      strip_keys = std::max(strip_keys, keys);
    }
  }
};

// As many bands as give `enough` units of work, but none so low that it mostly repeats its neighbours' keys.
inline long bands_for(long strips, long enough, const Problem& problem) {
  const long shortest = problem.height / problem.dilation;
  const long most = std::max(1L, shortest / std::max(kLeastBandRows, problem.kernel - 1));
  return std::clamp((enough + strips - 1) / std::max(1L, strips), 1L, most);
}

}  // namespace segzoo
