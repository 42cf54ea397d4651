// Where a sampled point lies: worked out once by one lane, read by the lanes of its group through shared memory.
#pragma once

#include "../shared/cuda_vector.cuh"
#include "cuda_problem.cuh"

namespace segzoo {

constexpr int kWarps = 8;  // of a block
constexpr unsigned kAllLanes = 0xffffffffu;

// The four neighbours of one point in the order top left, top right, bottom left, bottom right.
template <typename Real>
struct Sample {
  int place[4] = {-1, -1, -1, -1};  // tokens; -1 outside the level
  Real share[4] = {};               // without the attention weight
  Real weight = 0;                  // the attention weight
  Real across = 0, down = 0;        // how far the point lies between its neighbours, 0 to 1
  int level = 0;
  bool reaches = false;  // a neighbour lies inside
};

// The first of the two neighbours of a position, and how far behind it the position lies. False where both are
// outside. NaN has neighbours, at the first token, so that it shows in the results.
template <typename Real>
__device__ __forceinline__ bool neighbours_at(Real position, int size, int& low, Real& fraction) {
  if (position > -1 && position < static_cast<Real>(size)) {
    const Real whole = floor(position);
    low = static_cast<int>(whole);
    fraction = position - whole;
    return true;
  }
  low = 0;
  fraction = position;
  return position != position;
}

// Point number `number` of the L * P of one query and head, whose first one is `first`.
template <typename Real>
__device__ __forceinline__ Sample<Real> find_sample(const CudaProblem& problem, int64_t first, int number) {
  Sample<Real> sample;
  const Real* location = static_cast<const Real*>(problem.locations) + 2 * (first + number);
  sample.weight = static_cast<const Real*>(problem.weights)[first + number];
  sample.level = number / problem.points;
  const int width = problem.width[sample.level], height = problem.height[sample.level];
  int column, row;
  const Real half = static_cast<Real>(0.5);
  sample.reaches = neighbours_at(location[0] * width - half, width, column, sample.across) &&
                   neighbours_at(location[1] * height - half, height, row, sample.down);
  if (!sample.reaches) return sample;
  const int token = problem.start[sample.level] + row * width + column;
  const bool columns[2] = {column >= 0, column + 1 < width}, rows[2] = {row >= 0, row + 1 < height};
  const Real column_share[2] = {1 - sample.across, sample.across}, row_share[2] = {1 - sample.down, sample.down};
  for (int corner = 0; corner < 4; ++corner) {
    const int right = corner % 2, lower = corner / 2;
    if (!columns[right] || !rows[lower]) continue;
    sample.place[corner] = token + lower * width + right;
    sample.share[corner] = row_share[lower] * column_share[right];
  }
  return sample;
}

// What the lanes of a warp have found, one sample a lane. Apart, so that groups read different banks.
template <typename Real>
struct alignas(16) Stage {
  int place[32][4];
  Real share[32][4];  // with the attention weight

  __device__ __forceinline__ void put(int lane, const Sample<Real>& sample) {
    for (int corner = 0; corner < 4; ++corner) {
      place[lane][corner] = sample.place[corner];
      share[lane][corner] = sample.share[corner] * sample.weight;
    }
  }
  // Both of a sample, in loads of 16 bytes.
  __device__ __forceinline__ void get(int lane, int (&places)[4], Real (&shares)[4]) const {
    const int4 p = *reinterpret_cast<const int4*>(place[lane]);
    places[0] = p.x, places[1] = p.y, places[2] = p.z, places[3] = p.w;
    if constexpr (sizeof(Real) == 4) {
      const float4 s = *reinterpret_cast<const float4*>(share[lane]);
      shares[0] = s.x, shares[1] = s.y, shares[2] = s.z, shares[3] = s.w;
    } else {
      for (int corner = 0; corner < 4; ++corner) shares[corner] = share[lane][corner];
    }
  }
};

// The part of the work that a lane has: `own` numbers the query in its warp, `member` the lane in its group.
template <int kGroup>
struct Seat {
  static constexpr int kQueries = kWarps * 32 / kGroup;  // of a block
  int lane, warp, own, member, head;
  int64_t batch, query;
  bool present;

  __device__ __forceinline__ explicit Seat(const CudaProblem& problem) {
    lane = threadIdx.x % 32;
    warp = threadIdx.x / 32;
    own = lane / kGroup;
    member = lane % kGroup;
    // Neighbouring queries of one head lie in a block, because they read the same tokens.
    const unsigned tiles = static_cast<unsigned>((problem.queries + kQueries - 1) / kQueries);
    const unsigned map = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    head = static_cast<int>(map % problem.heads);
    batch = map / problem.heads;
    query = static_cast<int64_t>(tile) * kQueries + warp * (32 / kGroup) + own;
    present = query < problem.queries;
  }
  // The number of the query and head among all of the batch.
  __device__ __forceinline__ int64_t pair(const CudaProblem& problem) const {
    return (batch * problem.queries + query) * problem.heads + head;
  }
};

}  // namespace segzoo
