// Cutting an image into strips, groups of rows and units of work, and a view's taps into what they read.
#pragma once

#include <algorithm>
#include <vector>

#include "problem.h"

namespace segzoo {

constexpr long kBandRows = 32;        // pixel rows of a unit: their logits stay in the second cache
constexpr long kUnitsAThread = 4;     // at least, so that no thread waits long for the last one

// Taps of one side, checked: pixel p is the sum over t of weight[p * taps + t] * logit source[p * taps + t].
struct Side {
  const int* source;
  const float* weight;
  long pixels, taps, length;  // length: logits along the side
};

// Groups of pixel rows that read few logit rows together, as `Sources` describes them.
class RowPlan {
 public:
  RowPlan(const Side& side, const std::vector<Group>& groups, long capacity) {
    first_.push_back(0);
    for (const Group& group : groups) add(side, group, capacity);
  }

  Sources sources() const { return {first_.data(), source_.data(), weight_.data(), most_}; }

 private:
  void add(const Side& side, const Group& group, long capacity) {
    std::vector<int> used;
    for (long row = group.first; row < group.first + group.rows; ++row) {
      for (long t = 0; t < side.taps; ++t) used.push_back(side.source[row * side.taps + t]);
    }
    std::sort(used.begin(), used.end());
    used.erase(std::unique(used.begin(), used.end()), used.end());
    if (used.size() == 1) used.push_back(used[0]);  // the kernels are written for two rows and more
    const long count = static_cast<long>(used.size());
    source_.insert(source_.end(), used.begin(), used.end());
    const size_t begin = weight_.size();
    weight_.resize(begin + count * capacity, 0.0f);
    for (long r = 0; r < capacity; ++r) {
      const long row = group.first + std::min(r, group.rows - 1);
      for (long t = 0; t < side.taps; ++t) {
        const long place = std::lower_bound(used.begin(), used.end(), side.source[row * side.taps + t]) - used.begin();
        weight_[begin + r * count + place] += side.weight[row * side.taps + t];
      }
    }
    first_.push_back(static_cast<long>(source_.size()));
    most_ = std::max(most_, count);
  }

  std::vector<long> first_;
  std::vector<int> source_;
  std::vector<float> weight_;
  long most_ = 0;
};

// The columns of all strips as `Terms` describes them. A logit row must be at least `lanes` long.
class ColumnPlan {
 public:
  ColumnPlan(const Side& side, long lanes, float scale) : side_(side), lanes_(lanes), scale_(scale) {
    first_.push_back(0);
    for (long column = 0; column < side.pixels; column += lanes) add_strip(column);
  }

  Terms terms() const { return {first_.data(), start_.data(), index_.data(), weight_.data()}; }

 private:
  // Entries of a strip in order of their logit; those within one vector's reach share a start.
  struct Entry {
    int source;
    long lane;
    float weight;
  };

  void add_strip(long column) {
    std::vector<Entry> entries;
    for (long lane = 0; lane < lanes_; ++lane) {
      const long pixel = std::min(column + lane, side_.pixels - 1) * side_.taps;
      for (long t = 0; t < side_.taps; ++t) {
        if (side_.weight[pixel + t] != 0) entries.push_back({side_.source[pixel + t], lane, side_.weight[pixel + t]});
      }
    }
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.source < b.source; });
    for (size_t begin = 0; begin < entries.size();) {
      const long start = std::min<long>(entries[begin].source, side_.length - lanes_);
      size_t end = begin;
      while (end < entries.size() && entries[end].source < start + lanes_) ++end;
      add_terms(entries.data() + begin, entries.data() + end, start);
      begin = end;
    }
    first_.push_back(static_cast<long>(start_.size()));
  }

  void add_terms(const Entry* begin, const Entry* end, long start) {
    const size_t first = start_.size();
    std::vector<size_t> filled(lanes_, 0);
    for (const Entry* entry = begin; entry != end; ++entry) {
      const size_t term = first + filled[entry->lane]++;
      if (term == start_.size()) {
        start_.push_back(start);
        index_.resize(index_.size() + lanes_, 0);
        weight_.resize(weight_.size() + lanes_, 0.0f);
      }
      index_[term * lanes_ + entry->lane] = static_cast<int>(entry->source - start);
      weight_[term * lanes_ + entry->lane] = entry->weight * scale_;
    }
  }

  Side side_;
  long lanes_;
  float scale_;
  std::vector<long> first_, start_;
  std::vector<int> index_;
  std::vector<float> weight_;
};

// Groups of one view: as many rows, at most kGroupRows, as read the logit rows of the first or few more.
inline std::vector<Group> groups_of_one(const Side& side) {
  std::vector<Group> groups;
  for (long row = 0; row < side.pixels;) {
    std::vector<int> used;
    size_t allowed = 0;
    long rows = 0;
    for (; rows < kGroupRows && row + rows < side.pixels; ++rows) {
      std::vector<int> wider = used;
      for (long t = 0; t < side.taps; ++t) {
        const long place = (row + rows) * side.taps + t;
        if (side.weight[place] != 0) wider.push_back(side.source[place]);
      }
      std::sort(wider.begin(), wider.end());
      wider.erase(std::unique(wider.begin(), wider.end()), wider.end());
      if (rows == 0) allowed = std::max<size_t>(wider.size(), std::min<size_t>(side.taps, 3));
      if (wider.size() > allowed) break;
      used = wider;
    }
    groups.push_back({row, rows});
    row += rows;
  }
  return groups;
}

inline std::vector<Group> groups_of_several(long height) {
  std::vector<Group> groups;
  for (long row = 0; row < height; row += kAveragedRows) groups.push_back({row, std::min(kAveragedRows + 0L, height - row)});
  return groups;
}

// Bands of about kBandRows rows; for many threads lower ones, and cut into parts of the strips.
inline std::vector<Part> parts(const std::vector<Group>& groups, long height, long strips, long threads) {
  const long wanted = threads > 1 ? threads * kUnitsAThread : 1;
  const long rows = std::clamp(height / wanted, 2L * kGroupRows, kBandRows);
  std::vector<long> cuts = {0};
  for (long g = 1; g < static_cast<long>(groups.size()); ++g) {
    if (groups[g].first - groups[cuts.back()].first >= rows) cuts.push_back(g);
  }
  const long bands = static_cast<long>(cuts.size());
  cuts.push_back(static_cast<long>(groups.size()));
  const long pieces = std::clamp((wanted + bands - 1) / bands, 1L, std::max(strips, 1L));
  std::vector<Part> found;
  for (long band = 0; band < bands; ++band) {
    for (long piece = 0; piece < pieces; ++piece) {
      found.push_back({cuts[band], cuts[band + 1], strips * piece / pieces, strips * (piece + 1) / pieces});
    }
  }
  return found;
}

}  // namespace segzoo
