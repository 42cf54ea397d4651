// Runs the CUDA kernels of the evaluation tail in the emulator on one problem from standard input, and writes labels
// and counts to standard output. See tests/kernels/test_tail_cuda.py for the other end.
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <vector>

#include "cuda_launches.cuh"

namespace {

using segzoo::CudaTail;

void read_exactly(void* target, size_t bytes) {
  if (std::fread(target, 1, bytes, stdin) != bytes) segzoo_emulator::fail("the input is too short");
}

// Heap blocks of exactly the size of the tensor, so that AddressSanitizer sees a step outside.
class Memory {
 public:
  ~Memory() {
    for (void* block : blocks_) std::free(block);
  }
  void* zeros(size_t bytes) {
    blocks_.push_back(std::calloc(bytes ? bytes : 1, 1));
    return blocks_.back();
  }
  void* read(size_t bytes) {
    void* block = zeros(bytes);
    read_exactly(block, bytes);
    return block;
  }

 private:
  std::deque<void*> blocks_;
};

segzoo::CudaTaps read_taps(Memory& memory, int pixels) {
  int64_t taps;
  read_exactly(&taps, sizeof(taps));
  const size_t count = static_cast<size_t>(pixels) * taps;
  const int* sources = static_cast<const int*>(memory.read(count * 4));
  return {sources, static_cast<const float*>(memory.read(count * 4)), static_cast<int>(taps)};
}

}  // namespace

int main() {
  enum Word { kHalf, kClasses, kHeight, kWidth, kViews, kTargetBytes, kCounted, kIgnore, kWords };
  int64_t words[kWords];
  read_exactly(words, sizeof(words));
  Memory memory;
  CudaTail problem{};
  problem.classes = static_cast<int>(words[kClasses]);
  problem.height = static_cast<int>(words[kHeight]);
  problem.width = static_cast<int>(words[kWidth]);
  problem.views = static_cast<int>(words[kViews]);
  problem.wide = problem.classes > 256;
  const size_t value_bytes = words[kHalf] ? 2 : 4, pixels = words[kHeight] * words[kWidth];
  for (int number = 0; number < problem.views; ++number) {
    segzoo::CudaView& view = problem.view[number];
    int64_t size[2];
    read_exactly(size, sizeof(size));
    view.height = static_cast<int>(size[0]);
    view.width = static_cast<int>(size[1]);
    view.class_stride = size[0] * size[1];
    view.row_stride = size[1];
    view.logits = memory.read(problem.classes * view.class_stride * value_bytes);
    view.rows = read_taps(memory, problem.height);
    view.columns = read_taps(memory, problem.width);
    problem.most_row_taps = max(problem.most_row_taps, view.rows.taps);
  }
  const size_t label_bytes = pixels * (problem.wide ? 4 : 1);
  problem.labels = memory.zeros(label_bytes);
  size_t cells = 0;
  if (words[kTargetBytes]) {
    problem.target_wide = words[kTargetBytes] == 8;
    problem.target = memory.read(pixels * words[kTargetBytes]);
    problem.counted = words[kCounted];
    problem.ignore = words[kIgnore];
    cells = (words[kCounted] + 1) * (words[kCounted] + 1);
    problem.counts = static_cast<unsigned long long*>(memory.zeros(cells * 8));
  }
  const char* error = words[kHalf] ? segzoo::run_tail<__nv_bfloat16>(problem, nullptr)
                                   : segzoo::run_tail<float>(problem, nullptr);
  if (error) segzoo_emulator::fail(error);
  std::fwrite(problem.labels, 1, label_bytes, stdout);
  if (cells) std::fwrite(problem.counts, 8, cells, stdout);
  return 0;
}
