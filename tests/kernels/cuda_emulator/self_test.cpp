// Small kernels that show what the emulator does and what it reports; run by tests/kernels/test_cuda_emulator.py.
// Usage: self_test CASE; prints numbers, or ends with a message where the case is a mistake.
#include "cuda_launch.cuh"
#include "cuda_matrix.cuh"
#include "cuda_memory.cuh"

namespace {

// out[16 * 8] = a[16 * 16] * b[16 * 8], the operand b by ldmatrix.trans from shared memory.
template <typename Half>
__global__ void matrix_product(const Half* a, const Half* b, float* out) {
  SEGZOO_DYNAMIC_SHARED(memory);
  Half* rows = reinterpret_cast<Half*>(memory);
  const int lane = threadIdx.x, group = lane / 4, quad = lane % 4;
  if (lane < 16) segzoo::copy_16_bytes(rows + 8 * lane, b + 8 * lane, true);
  segzoo::commit_copies();
  segzoo::wait_for_copies<0>();
  __syncwarp();
  unsigned parts[4], operand[4];
  segzoo::load_transposed(parts, rows + 8 * (lane % 16));
  for (int i = 0; i < 4; ++i) {
    memcpy(&operand[i], a + 16 * (group + 8 * (i % 2)) + 2 * quad + 8 * (i / 2), 4);
  }
  float sums[4] = {};
  segzoo::multiply_add<Half>(sums, operand, parts[0], parts[1]);
  for (int i = 0; i < 4; ++i) out[8 * (group + 8 * (i / 2)) + 2 * quad + i % 2] = sums[i];
}

template <typename Half>
void print_product(Half (*convert)(float)) {
  Half a[256], b[128];
  float out[128];
  for (int i = 0; i < 256; ++i) a[i] = convert(0.25f * (i % 13) - 1);
  for (int i = 0; i < 128; ++i) b[i] = convert(0.5f * (i % 7) - 1);
  alignas(16) static Half aligned[128];
  memcpy(aligned, b, sizeof(b));
  segzoo::launch(matrix_product<Half>, {1, 32, 256}, a, aligned, out);
  for (float value : out) std::printf("%g\n", value);
}

// Sum over 64 threads by shuffles and shared memory.
__global__ void block_sum(const float* values, float* sum) {
  __shared__ float parts[2];
  float own = values[blockIdx.x * 64 + threadIdx.x];
  for (int step = 16; step > 0; step /= 2) own += __shfl_xor_sync(0xffffffffu, own, step);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = own;
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(sum, parts[0] + parts[1]);
}

__global__ void reverse(float* values, bool with_barrier) {
  SEGZOO_DYNAMIC_SHARED(memory);
  float* shared = reinterpret_cast<float*>(memory);
  shared[threadIdx.x] = values[threadIdx.x];
  if (with_barrier) __syncthreads();
  values[threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}

__global__ void half_of_the_block_waits() {
  if (threadIdx.x < 32) __syncthreads();
}

__global__ void two_places() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void beyond_shared_memory(float* out) {
  SEGZOO_DYNAMIC_SHARED(memory);
  out[0] = reinterpret_cast<float*>(memory)[32 + threadIdx.x];
}

__global__ void beyond_global_memory(float* out) { out[threadIdx.x + 1] = 0; }

__global__ void copy_without_waiting(const float* source) {
  SEGZOO_DYNAMIC_SHARED(memory);
  segzoo::copy_16_bytes(memory + 16 * threadIdx.x, source, true);
  segzoo::commit_copies();
}

void print_reversed(bool with_barrier) {
  float values[64];
  for (int i = 0; i < 64; ++i) values[i] = i;
  segzoo::launch(reverse, {1, 64, 256}, values, with_barrier);
  for (float value : values) std::printf("%g\n", value);
}

void print_sum() {
  float values[192], sum = 0;
  for (int i = 0; i < 192; ++i) values[i] = i;
  segzoo::launch(block_sum, {3, 64}, values, &sum);
  std::printf("%g\n", sum);
}

}  // namespace

int main(int count, char** words) {
  const std::string name = count > 1 ? words[1] : "";
  float* heap = static_cast<float*>(aligned_alloc(128, 128));
  if (name == "float16") print_product<__half>(__float2half_rn);
  else if (name == "bfloat16") print_product<__nv_bfloat16>(__float2bfloat16_rn);
  else if (name == "sum") print_sum();
  else if (name == "reversed") print_reversed(true);
  else if (name == "missing barrier") print_reversed(false);
  else if (name == "half waits") segzoo::launch(half_of_the_block_waits, {1, 64});
  else if (name == "two places") segzoo::launch(two_places, {1, 64});
  else if (name == "beyond shared") segzoo::launch(beyond_shared_memory, {1, 32, 128}, heap);
  else if (name == "beyond global") segzoo::launch(beyond_global_memory, {1, 32}, heap);
  else if (name == "no wait") segzoo::launch(copy_without_waiting, {1, 32, 512}, heap);
  else return 2;
  free(heap);
  return 0;
}
