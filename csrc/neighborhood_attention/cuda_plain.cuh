// What the kernels without tensor cores share: float32, float64, and half precision in shapes that tensor cores do not
// take. Products are plain multiply-adds in the type of sums; nothing is rounded to TF32.
//
// 8, 16 or 32 lanes work on a run of 4 neighbouring positions of a row of a class, each lane on 4 of the channels. So
// every token that is read serves 4 positions, and the sums over channels need few shuffles.
#pragma once

#include "../shared/cuda_matrix.cuh"
#include "cuda_problem.cuh"

namespace segzoo {

constexpr int kRun = 4;
constexpr int kChannels = 4;  // of a lane
constexpr int kPlainThreads = 128;
constexpr int kMostRunsOfBlock = kPlainThreads / 8;

SEGZOO_INLINE int runs_of(int count) { return (count + kRun - 1) / kRun; }

// Runs of one head of all images and classes.
SEGZOO_INLINE long runs_of_head(const CudaProblem& problem) {
  return static_cast<long>(problem.shape.batch) * problem.shape.dilation * problem.shape.dilation *
         problem.longest_rows * runs_of(problem.longest_columns);
}

// One kernel: types, lanes of a run, and how many channels of a lane lie side by side (1 or 4).
template <typename Element_, typename Sum_, int lanes_, int vector_>
struct Plain {
  using Element = Element_;
  using Sum = Sum_;
  static constexpr int lanes = lanes_, vector = vector_, runs = kPlainThreads / lanes_;
  static __device__ __forceinline__ int channel(int number) {
    return (number / vector * lanes + threadIdx.x % lanes) * vector + number % vector;
  }
};

__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ double widen(double value) { return value; }
__device__ __forceinline__ float widen(__half value) { return __half2float(value); }
__device__ __forceinline__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ void narrow(float value, float& result) { result = value; }
__device__ __forceinline__ void narrow(double value, double& result) { result = value; }
__device__ __forceinline__ void narrow(float value, __half& result) { result = __float2half_rn(value); }
__device__ __forceinline__ void narrow(float value, __nv_bfloat16& result) { result = __float2bfloat16_rn(value); }
__device__ __forceinline__ float exponential(float value) { return exp2_fast(kLog2E * value); }
__device__ __forceinline__ double exponential(double value) { return exp(value); }

// The lane's channels of a token; those beyond the head dimension are zero.
template <typename P>
__device__ __forceinline__ void read_channels(typename P::Sum (&values)[kChannels], const void* data, long offset,
                                              long stride, int head_dim) {
  using Element = typename P::Element;
  const Element* token = static_cast<const Element*>(data) + offset;
#pragma unroll
  for (int i = 0; i < kChannels; i += P::vector) {
    const int channel = P::channel(i);
    if constexpr (P::vector == 4) {
      const float4 four = channel < head_dim ? __ldg(reinterpret_cast<const float4*>(token + channel))
                                             : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      values[i] = four.x;
      values[i + 1] = four.y;
      values[i + 2] = four.z;
      values[i + 3] = four.w;
    } else {
      values[i] = channel < head_dim ? widen(token[channel * stride]) : typename P::Sum(0);
    }
  }
}

template <typename P>
__device__ __forceinline__ void write_channels(const typename P::Sum (&values)[kChannels], void* data, long index,
                                               int head_dim, typename P::Sum factor) {
  typename P::Element* token = static_cast<typename P::Element*>(data) + index * head_dim;
#pragma unroll
  for (int i = 0; i < kChannels; ++i) {
    if (P::channel(i) < head_dim) narrow(factor * values[i], token[P::channel(i)]);
  }
}

// A run: positions first ... first + 3 of a row. All indices are moved into the map; `there` says if they were in it.
struct RunWork {
  int head, batch, row, first, columns[kRun];
  bool there[kRun];
  ClassMap map;
};

// `number`: of the run within its head.
__device__ inline RunWork find_run(const CudaProblem& problem, int head, long number, long runs) {
  const Geometry& shape = problem.shape;
  const bool exists = number < runs;
  if (!exists) number = runs - 1;
  RunWork work;
  work.head = head;
  const int across = runs_of(problem.longest_columns), down = problem.longest_rows;
  work.first = static_cast<int>(number % across) * kRun;
  number /= across;
  work.row = static_cast<int>(number % down);
  number /= down;
  const int column = static_cast<int>(number % shape.dilation);
  number /= shape.dilation;
  work.map = class_map(problem, static_cast<int>(number % shape.dilation), column);
  work.batch = static_cast<int>(number / shape.dilation);
  const bool in_rows = exists && work.row < work.map.rows;
  work.row = min(work.row, work.map.rows - 1);
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    work.there[i] = in_rows && work.first + i < work.map.columns;
    work.columns[i] = min(work.first + i, work.map.columns - 1);
  }
  work.first = min(work.first, work.map.columns - 1);
  return work;
}

// Which of the run's positions the lane keeps the sums of. Every 8 lanes have all four, two lanes each.
__device__ __forceinline__ int own_position() { return threadIdx.x % 8 / 2; }

// Of the lanes with one position, the one that writes.
template <typename P>
__device__ __forceinline__ bool writes_own() {
  return static_cast<int>(threadIdx.x) % P::lanes == 2 * own_position();
}

// The lane's column without an index that would put the array into memory.
__device__ __forceinline__ int own_column(const RunWork& work) {
  return min(work.first + own_position(), work.map.columns - 1);
}

// Sums over the run's lanes of four values; the lane gets that of its own position.
template <typename P, typename Sum = typename P::Sum>
__device__ __forceinline__ Sum sum_of_own(const Sum (&values)[kRun]) {
  const bool upper = threadIdx.x & 4, odd = threadIdx.x & 2;
  const Sum first = (upper ? values[2] : values[0]) +
                    __shfl_xor_sync(0xffffffffu, upper ? values[0] : values[2], 4);
  const Sum second = (upper ? values[3] : values[1]) +
                     __shfl_xor_sync(0xffffffffu, upper ? values[1] : values[3], 4);
  Sum sum = (odd ? second : first) + __shfl_xor_sync(0xffffffffu, odd ? first : second, 2);
  sum += __shfl_xor_sync(0xffffffffu, sum, 1);
#pragma unroll
  for (int step = 8; step < P::lanes; step *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  return sum;
}

// The value of every position, from the lanes that own it.
template <typename Sum>
__device__ __forceinline__ void spread(Sum (&values)[kRun], Sum own) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) values[i] = __shfl_sync(0xffffffffu, own, 2 * i, 8);
}

template <typename Sum>
__device__ __forceinline__ Sum dot(const Sum (&a)[kChannels], const Sum (&b)[kChannels]) {
  Sum sum = a[0] * b[0];
#pragma unroll
  for (int i = 1; i < kChannels; ++i) sum += a[i] * b[i];
  return sum;
}

// The sum over channels of four positions with one token, of the lane's own position.
template <typename P, typename Sum = typename P::Sum>
__device__ __forceinline__ Sum own_dot(const Sum (&run)[kRun][kChannels], const Sum (&token)[kChannels]) {
  Sum sums[kRun];
#pragma unroll
  for (int i = 0; i < kRun; ++i) sums[i] = dot(run[i], token);
  return sum_of_own<P>(sums);
}

template <typename Sum>
__device__ __forceinline__ void add_scaled(Sum (&run)[kRun][kChannels], const Sum (&factors)[kRun],
                                           const Sum (&token)[kChannels]) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
#pragma unroll
    for (int c = 0; c < kChannels; ++c) run[i][c] += factors[i] * token[c];
  }
}

template <typename P>
__device__ __forceinline__ void read_token(typename P::Sum (&values)[kChannels], const DeviceTokens& tokens,
                                           const CudaProblem& problem, const RunWork& work, int row, int column) {
  read_channels<P>(values, tokens.data,
                   token_offset(tokens, problem.shape, work.map, work.batch, row, column, work.head), tokens.channel,
                   problem.shape.head_dim);
}

template <typename P>
__device__ __forceinline__ void read_run(typename P::Sum (&run)[kRun][kChannels], const DeviceTokens& tokens,
                                         const CudaProblem& problem, const RunWork& work) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) read_token<P>(run[i], tokens, problem, work, work.row, work.columns[i]);
}

__device__ __forceinline__ long run_index(const CudaProblem& problem, const RunWork& work, int column) {
  return token_index(problem.shape, work.map, work.batch, work.row, column, work.head);
}

template <typename P>
__device__ __forceinline__ void write_run(const typename P::Sum (&run)[kRun][kChannels], void* data,
                                          const CudaProblem& problem, const RunWork& work,
                                          const typename P::Sum (&factors)[kRun]) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    if (!work.there[i]) continue;
    write_channels<P>(run[i], data, run_index(problem, work, work.columns[i]), problem.shape.head_dim, factors[i]);
  }
}

// Cell of the bias table of a query and a key, given as ranks.
__device__ __forceinline__ int bias_cell(int kernel, int query_row, int query_column, int key_row, int key_column) {
  return (key_row - query_row + kernel - 1) * (2 * kernel - 1) + key_column - query_column + kernel - 1;
}

template <typename Sum>
__device__ __forceinline__ Sum bias_at(const CudaProblem& problem, int head, int cell) {
  if (problem.bias == nullptr) return Sum(0);
  const int width = 2 * problem.shape.kernel - 1;
  return __ldg(static_cast<const Sum*>(problem.bias) + static_cast<long>(head) * width * width + cell);
}

}  // namespace segzoo
