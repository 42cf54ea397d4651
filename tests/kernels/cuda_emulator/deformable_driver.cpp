// Runs the CUDA kernels of deformable attention in the emulator on one problem from standard input, and writes their
// results to standard output. See tests/kernels/test_deformable_cuda.py for the other end.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cuda_launches.cuh"

namespace {

using segzoo::CudaProblem;

enum Word { kType, kBackward, kDeterministic, kBatch, kQueries, kHeads, kDim, kPoints, kLevels, kWords };

void read_exactly(void* target, size_t bytes) {
  if (std::fread(target, 1, bytes, stdin) != bytes) segzoo_emulator::fail("the input is too short");
}

// Heap blocks of exactly the size of the tensor, so that AddressSanitizer sees a step outside.
template <typename Value>
struct Tensor {
  size_t count;
  Value* data;

  explicit Tensor(int64_t count_, bool read = false) : count(count_) {
    data = static_cast<Value*>(std::calloc(count ? count : 1, sizeof(Value)));
    if (read) read_exactly(data, count * sizeof(Value));
  }
  ~Tensor() { std::free(data); }
  void write() const { std::fwrite(data, sizeof(Value), count, stdout); }
};

template <typename Value>
void run(CudaProblem& problem, bool backward) {
  using Real = segzoo::RealOf<Value>;
  const int64_t pairs = problem.batch * problem.queries * problem.heads;
  const int64_t samples = pairs * problem.levels * problem.points;
  const int64_t values = problem.batch * problem.tokens * problem.heads * problem.head_dim;
  const Tensor<Value> value(values, true);
  const Tensor<Real> locations(2 * samples, true), weights(samples, true);
  const Tensor<Value> grad_output(backward ? pairs * problem.head_dim : 0, true);
  const Tensor<Value> output(pairs * problem.head_dim);
  const Tensor<Real> grad_value(values), grad_locations(2 * samples), grad_weights(samples);
  problem.value = value.data;
  problem.locations = locations.data;
  problem.weights = weights.data;
  problem.grad_output = grad_output.data;
  problem.output = output.data;
  problem.grad_value = grad_value.data;
  problem.grad_locations = grad_locations.data;
  problem.grad_weights = grad_weights.data;
  const char* error = backward ? segzoo::run_backward<Value>(problem, nullptr)
                               : segzoo::run_forward<Value>(problem, nullptr);
  if (error) segzoo_emulator::fail(error);
  if (!backward) return output.write();
  grad_value.write();
  grad_locations.write();
  grad_weights.write();
}

}  // namespace

int main() {
  int64_t words[kWords];
  read_exactly(words, sizeof(words));
  CudaProblem problem{};
  problem.deterministic = words[kDeterministic];
  problem.batch = words[kBatch];
  problem.queries = words[kQueries];
  problem.heads = static_cast<int>(words[kHeads]);
  problem.head_dim = static_cast<int>(words[kDim]);
  problem.points = static_cast<int>(words[kPoints]);
  problem.levels = static_cast<int>(words[kLevels]);
  for (int level = 0; level < problem.levels; ++level) {
    int64_t shape[2];
    read_exactly(shape, sizeof(shape));
    problem.height[level] = static_cast<int>(shape[0]);
    problem.width[level] = static_cast<int>(shape[1]);
    problem.start[level] = static_cast<int>(problem.tokens);
    problem.tokens += shape[0] * shape[1];
  }
  if (words[kType] == 0) run<double>(problem, words[kBackward]);
  else if (words[kType] == 1) run<float>(problem, words[kBackward]);
  else if (words[kType] == 2) run<__nv_bfloat16>(problem, words[kBackward]);
  else run<__half>(problem, words[kBackward]);
  return 0;
}
