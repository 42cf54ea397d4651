// Rivals of segzoo's kernels and the speed of this machine, for ctypes; no operator of PyTorch is registered.
#include <cstring>
#include <thread>
#include <vector>

#include "../../csrc/shared/processor.h"
#include "rivals.h"

#define SEGZOO_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using segzoo_rivals::Neighborhood;
using segzoo_rivals::Variant;

const Variant& variant() {
  static const Variant& chosen = segzoo::on_this_processor(
      [](auto best) -> const Variant& { return segzoo_rivals::variant(best); });
  return chosen;
}

// Runs work(number) in `threads` threads; with one, in the caller's own, whose processor time is then all of it.
template <typename Work>
void in_threads(long threads, const Work& work) {
  std::vector<std::thread> others;
  for (long number = 1; number < threads; ++number) others.emplace_back([&work, number] { work(number); });
  work(0);
  for (std::thread& other : others) other.join();
}

using Step = void (*)(const Neighborhood&, long plane, long row);

void for_rows(const Neighborhood& problem, long threads, Step step) {
  const long rows = problem.batch * problem.heads * problem.height;
  in_threads(threads, [&](long number) {
    for (long row = rows * number / threads; row < rows * (number + 1) / threads; ++row) {
      step(problem, row / problem.height, row % problem.height);
    }
  });
}

}  // namespace

SEGZOO_EXPORT const char* segzoo_rivals_variant() { return variant().name; }

SEGZOO_EXPORT long segzoo_rivals_lanes() { return variant().lanes; }

SEGZOO_EXPORT void segzoo_rivals_logits(const Neighborhood* problem, long threads) {
  for_rows(*problem, threads, variant().logits);
}

SEGZOO_EXPORT void segzoo_rivals_values(const Neighborhood* problem, long threads) {
  for_rows(*problem, threads, variant().values);
}

// At least `flops` floating-point operations, all multiply-adds, shared among the threads. Returns how many.
SEGZOO_EXPORT double segzoo_rivals_multiply_add(double flops, long threads) {
  const Variant& chosen = variant();
  const long rounds = static_cast<long>(flops / static_cast<double>(threads * chosen.flops_a_round)) + 1;
  in_threads(threads, [&](long) {
    float sink;
    chosen.multiply_add(rounds, &sink);
  });
  return static_cast<double>(rounds * threads * chosen.flops_a_round);
}

// Copies `bytes` from one piece of memory to another, shared among the threads.
SEGZOO_EXPORT void segzoo_rivals_copy(const char* source, char* target, long bytes, long threads) {
  in_threads(threads, [&](long number) {
    const long begin = bytes * number / threads, end = bytes * (number + 1) / threads;
    std::memcpy(target + begin, source + begin, end - begin);
  });
}
