// The forward kernel. A group of lanes has one query of one head; each lane has `kVector` neighbouring channels, and
// works out one sample of a round for all of its group.
#pragma once

#include "cuda_sample.cuh"

namespace segzoo {

constexpr int kAtOnce = 2;  // samples whose corners are loaded together

template <typename Value, int kVector, int kGroup>
__global__ void __launch_bounds__(kWarps * 32, 4) deformable_forward(const CudaProblem problem) {
  using Real = RealOf<Value>;
  __shared__ Stage<Real> stages[kWarps];
  const Seat<kGroup> seat(problem);
  Stage<Real>& stage = stages[seat.warp];
  const int samples = problem.levels * problem.points, dim = problem.head_dim;
  const int64_t pair = seat.present ? seat.pair(problem) : 0, token_step = int64_t{problem.heads} * dim;
  const Value* head = static_cast<const Value*>(problem.value) + seat.batch * problem.tokens * token_step +
                      seat.head * dim;
  // Once, but for heads of more channels than a group holds.
  for (int chunk = 0; chunk < dim; chunk += kGroup * kVector) {
    const int channel = chunk + seat.member * kVector;
    const bool mine = channel < dim;
    Real sums[kVector] = {};
    for (int round = 0; round < samples; round += kGroup) {
      const int number = round + seat.member;
      const bool exists = seat.present && number < samples;
      stage.put(seat.lane, exists ? find_sample<Real>(problem, pair * samples, number) : Sample<Real>());
      __syncwarp();
#pragma unroll 1
      for (int i = 0; i < kGroup; i += kAtOnce) {
        Packet<Value, kVector> packets[kAtOnce][4];
        Real shares[kAtOnce][4];
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          int places[4];
          stage.get(seat.own * kGroup + i + k, places, shares[k]);
#pragma unroll
          for (int corner = 0; corner < 4; ++corner) {
            const bool reads = mine && places[corner] >= 0;
            if (reads) packets[k][corner].load(head + places[corner] * token_step + channel);
          }
        }
#pragma unroll
        for (int k = 0; k < 4 * kAtOnce; ++k) {
          Real values[kVector];
          packets[k / 4][k % 4].widen(values);
#pragma unroll
          for (int c = 0; c < kVector; ++c) sums[c] += shares[k / 4][k % 4] * values[c];
        }
      }
      __syncwarp();
    }
    if (mine && seat.present) {
      store_values<Value, kVector>(static_cast<Value*>(problem.output) + pair * dim + channel, sums);
    }
  }
}

}  // namespace segzoo
