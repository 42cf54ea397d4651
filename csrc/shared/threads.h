// Work on PyTorch's own thread pool, so that torch.set_num_threads holds, and memory for it.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

namespace segzoo {

// Memory on a cache line, freed at the end of the scope.
template <typename Real>
class Memory {
 public:
  explicit Memory(long count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(Real) + 127) / 64 * 64;
    pointer_ = static_cast<Real*>(std::aligned_alloc(64, bytes));
    STD_TORCH_CHECK(pointer_, "out of memory for ", bytes, " bytes of an attention's scratch");
  }
  ~Memory() { std::free(pointer_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Real* get() const { return pointer_; }

 private:
  Real* pointer_;
};

// Runs work(unit, scratch) for all units on PyTorch's threads, each thread taking the next free unit.
template <typename Real, typename Work>
void run_units(long units, long scratch_size, const Work& work) {
  const long threads = std::min<long>(units, torch::stable::get_num_threads());
  const long stride = (scratch_size + 15) / 16 * 16;
  const Memory<Real> scratch(threads * stride);
  std::atomic<long> next{0};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      for (long unit; (unit = next.fetch_add(1, std::memory_order_relaxed)) < units;) {
        work(unit, scratch.get() + worker * stride);
      }
    }
  });
}

}  // namespace segzoo
