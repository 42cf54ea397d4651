// Down the columns of several views: softmax of each, summed up class by class, and the best of the sums.
//
// The columns' weights are in units of log2(e), so that probabilities are powers of two of the scores.
#pragma once

#include "widen.h"

namespace {

constexpr int kRowsAveraged = segzoo::kAveragedRows;
// Below this sum of powers too many digits may have been lost, and the exact maximum is subtracted instead.
constexpr float kLeastSum = 1e-12f;

struct Averaged {
  const Rows& rows;
  const View& view;
  long group, classes;
  const float* weight;
  long count;
  const float** source;  // [count]

  Averaged(const Rows& rows_in, const View& view_in, long group_in, long classes_in, const float** memory)
      : rows(rows_in), view(view_in), group(group_in), classes(classes_in),
        weight(view_in.rows.weight + view_in.rows.first[group_in] * kRowsAveraged),
        count(view_in.rows.first[group_in + 1] - view_in.rows.first[group_in]), source(memory) {
    for (long k = 0; k < count; ++k) source[k] = rows.row(group, k);
  }

  // The same sum of logit rows for class c - 1; for c = 0 of the rows' largest values, a bound of all classes.
  SEGZOO_FORCE_INLINE Pixels score(int row, long c) const {
    Pixels sum = weight[row * count] * load<float>(source[0] + c * kStrip);
    for (long k = 1; k < count; ++k) sum += weight[row * count + k] * load<float>(source[k] + c * kStrip);
    return sum;
  }
};

// Writes 2^(score - shift) of all classes to powers[C][rows][lanes] and adds them up.
template <int Count>
void powers_of_group(const Averaged& averaged, const Pixels* shift, float* powers, Pixels* sum) {
  Pixels share[kRowsAveraged][Count], total[kRowsAveraged];
  const float* source[Count];
  for (int k = 0; k < Count; ++k) {
    source[k] = averaged.source[k] + kStrip;
    for (int r = 0; r < kRowsAveraged; ++r) share[r][k] = broadcast<float>(averaged.weight[r * Count + k]);
  }
  for (int r = 0; r < kRowsAveraged; ++r) total[r] = Pixels{};
  for (long c = 0; c < averaged.classes; ++c) {
    Pixels values[Count];
#pragma GCC unroll 4
    for (int k = 0; k < Count; ++k) values[k] = load<float>(source[k] + c * kStrip);
#pragma GCC unroll 2
    for (int r = 0; r < kRowsAveraged; ++r) {
      Pixels score = share[r][0] * values[0] - shift[r];
#pragma GCC unroll 4
      for (int k = 1; k < Count; ++k) score += share[r][k] * values[k];
      const Pixels power = exp2_of<float>(score);
      store<float>(powers + (c * kRowsAveraged + r) * kStrip, power);
      total[r] += power;
    }
  }
  for (int r = 0; r < kRowsAveraged; ++r) sum[r] = total[r];
}

void powers_of_any(const Averaged& averaged, const Pixels* shift, float* powers, Pixels* sum) {
  for (int r = 0; r < kRowsAveraged; ++r) {
    sum[r] = Pixels{};
    for (long c = 0; c < averaged.classes; ++c) {
      const Pixels power = exp2_of<float>(averaged.score(r, c + 1) - shift[r]);
      store<float>(powers + (c * kRowsAveraged + r) * kStrip, power);
      sum[r] += power;
    }
  }
}

void powers_of_group(const Averaged& averaged, const Pixels* shift, float* powers, Pixels* sum) {
  if (averaged.count == 2) powers_of_group<2>(averaged, shift, powers, sum);
  else if (averaged.count == 3) powers_of_group<3>(averaged, shift, powers, sum);
  else powers_of_any(averaged, shift, powers, sum);
}

bool any_below(const Pixels* sum, float least) {
  for (int r = 0; r < kRowsAveraged; ++r) {
    for (int lane = 0; lane < kStrip; ++lane) {
      if (!(sum[r][lane] >= least)) return true;
    }
  }
  return false;
}

// Adds the probabilities of one view to total[C][rows][lanes], or sets it to them.
void add_probabilities(const Averaged& averaged, bool set, float* powers, float* total) {
  Pixels shift[kRowsAveraged], sum[kRowsAveraged];
  for (int r = 0; r < kRowsAveraged; ++r) shift[r] = averaged.score(r, 0);
  powers_of_group(averaged, shift, powers, sum);
  if (any_below(sum, kLeastSum)) {
    for (int r = 0; r < kRowsAveraged; ++r) {
      shift[r] = averaged.score(r, 1);
      for (long c = 2; c <= averaged.classes; ++c) shift[r] = larger(shift[r], averaged.score(r, c));
    }
    powers_of_any(averaged, shift, powers, sum);
  }
  for (int r = 0; r < kRowsAveraged; ++r) sum[r] = broadcast<float>(1) / sum[r];
  for (long c = 0; c < averaged.classes; ++c) {
#pragma GCC unroll 2
    for (int r = 0; r < kRowsAveraged; ++r) {
      const long place = (c * kRowsAveraged + r) * kStrip;
      const Pixels before = set ? Pixels{} : load<float>(total + place);
      store<float>(total + place, before + sum[r] * load<float>(powers + place));
    }
  }
}

void best_of_sums(const float* total, long classes, int* best) {
  for (int r = 0; r < kRowsAveraged; ++r) {
    Pixels largest = broadcast<float>(-__builtin_inff());
    Mask<float> chosen{}, number{};
    for (long c = 0; c < classes; ++c) {
      const Pixels sum = load<float>(total + (c * kRowsAveraged + r) * kStrip);
      const Mask<float> better = sum > largest;
      largest = better ? sum : largest;
      chosen = better ? number : chosen;
      number += 1;
    }
    store<float>(reinterpret_cast<float*>(best + r * kStrip), reinterpret_cast<Pixels>(chosen));
  }
}

}  // namespace
