// Counts of pixels by true class and label: each thread has its own, which are added up at the end.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace segzoo {

constexpr long kMostCountBytes = 64L << 20;  // of all threads

template <typename Label, typename Target>
void count_pixels(const Label* labels, const Target* target, long pixels, long classes, int64_t ignore,
                  int64_t* counts) {
  // Neighbours are mostly alike: a run of equal pairs is counted at once.
  long run_place = 0, run = 0;
  for (long pixel = 0; pixel < pixels; ++pixel) {
    const int64_t truth = target[pixel];
    if (truth == ignore) continue;
    const long down = truth < 0 || truth > classes ? classes : static_cast<long>(truth);
    const long across = std::min<long>(labels[pixel], classes);
    const long place = down * (classes + 1) + across;
    if (place != run_place) {
      counts[run_place] += run;
      run_place = place;
      run = 0;
    }
    ++run;
  }
  counts[run_place] += run;
}

template <typename Label, typename Target>
void count_in_threads(const Label* labels, const Target* target, long pixels, long classes, int64_t ignore,
                      int64_t* counts) {
  const long cells = (classes + 1) * (classes + 1);
  const long affordable = std::max(1L, kMostCountBytes / (8 * cells));
  const long threads = std::min({static_cast<long>(torch::stable::get_num_threads()), affordable, pixels / 16384 + 1});
  std::vector<int64_t> own((threads - 1) * cells, 0);
  torch::stable::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      const long first = pixels * thread / threads, last = pixels * (thread + 1) / threads;
      int64_t* mine = thread == 0 ? counts : own.data() + (thread - 1) * cells;
      count_pixels(labels + first, target + first, last - first, classes, ignore, mine);
    }
  });
  for (long cell = 0; cell < static_cast<long>(own.size()); ++cell) counts[cell % cells] += own[cell];
}

}  // namespace segzoo
