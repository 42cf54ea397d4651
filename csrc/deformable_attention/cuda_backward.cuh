// The backward kernels: one for the gradients of locations and weights, which scatters that of the values by atomic
// additions; and one that adds up the gradient of the values in a fixed order, for deterministic runs.
#pragma once

#include "../shared/cuda_memory.cuh"
#include "cuda_sample.cuh"

namespace segzoo {

// Sums `kCount` values over neighbouring lanes all at once: lane i of each `kCount` gets the sum of value i. Each step
// halves the values that a lane still holds, so that this takes kCount - 1 shuffles in place of kCount * log2(kCount).
template <int kCount, typename Real>
__device__ __forceinline__ Real sum_transposed(Real (&values)[kCount], int lane) {
#pragma unroll
  for (int step = kCount / 2; step > 0; step /= 2) {
    const bool upper = lane & step;
#pragma unroll
    for (int i = 0; i < step; ++i) {
      const Real kept = upper ? values[i + step] : values[i], given = upper ? values[i] : values[i + step];
      values[i] = kept + __shfl_xor_sync(kAllLanes, given, step);
    }
  }
  return values[0];
}

// target[0 .. kVector) += share * gradient, by atomic additions.
template <int kVector, typename Real>
__device__ __forceinline__ void scatter(Real* target, Real share, const Real (&gradient)[kVector]) {
  if constexpr (kVector == 1) {
    atomicAdd(target, share * gradient[0]);
  } else {
#pragma unroll
    for (int c = 0; c < kVector; c += 4) {
      atomic_add_4(target + c, make_float4(share * gradient[c], share * gradient[c + 1], share * gradient[c + 2],
                                           share * gradient[c + 3]));
    }
  }
}

// Gradients of the weight and the location of a sample from the products of the output's gradient with its corners.
template <typename Real>
__device__ __forceinline__ void store_sample_gradients(const CudaProblem& problem, int64_t place,
                                                       const Sample<Real>& sample, const Real (&products)[4]) {
  const Real across = sample.across, down = sample.down;
  const Real top = products[1] - products[0], bottom = products[3] - products[2];
  const Real left = products[2] - products[0], right = products[3] - products[1];
  Real* weights = static_cast<Real*>(problem.grad_weights) + place;
  Real* locations = static_cast<Real*>(problem.grad_locations) + 2 * place;
  if (!sample.reaches) {
    *weights = locations[0] = locations[1] = 0;
    return;
  }
  *weights = (1 - down) * (products[0] + across * top) + down * (products[2] + across * bottom);
  locations[0] = problem.width[sample.level] * sample.weight * (top + down * (bottom - top));
  locations[1] = problem.height[sample.level] * sample.weight * (left + across * (right - left));
}

template <typename Value, int kVector, int kGroup>
__global__ void __launch_bounds__(kWarps * 32, 2) deformable_backward(const CudaProblem problem) {
  using Real = RealOf<Value>;
  constexpr int kFold = kGroup < 4 ? kGroup : 4;  // samples whose products a lane holds at once
  __shared__ Stage<Real> stages[kWarps];
  const Seat<kGroup> seat(problem);
  Stage<Real>& stage = stages[seat.warp];
  const int samples = problem.levels * problem.points, dim = problem.head_dim;
  const int64_t pair = seat.present ? seat.pair(problem) : 0, token_step = int64_t{problem.heads} * dim;
  const int64_t head = seat.batch * problem.tokens * token_step + seat.head * dim;
  const Value* values_of_head = static_cast<const Value*>(problem.value) + head;
  const Value* grad_output = static_cast<const Value*>(problem.grad_output) + pair * dim;
  Real* grad_value = problem.deterministic ? nullptr : static_cast<Real*>(problem.grad_value) + head;
  for (int round = 0; round < samples; round += kGroup) {
    const int number = round + seat.member;
    const bool exists = seat.present && number < samples;
    const Sample<Real> sample = exists ? find_sample<Real>(problem, pair * samples, number) : Sample<Real>();
    stage.put(seat.lane, sample);
    __syncwarp();
    Real own_products[4] = {};
#pragma unroll 1
    for (int part = 0; part < kGroup; part += kFold) {
      Real products[4][kFold] = {};
      // Once, but for heads of more channels than a group holds.
      for (int chunk = 0; chunk < dim; chunk += kGroup * kVector) {
        const int channel = chunk + seat.member * kVector;
        const bool mine = seat.present && channel < dim;
        Packet<Value, kVector> packet;
        if (mine) packet.load(grad_output + channel);
        Real gradient[kVector];
        packet.widen(gradient);
#pragma unroll
        for (int i = 0; i < kFold; ++i) {
          int places[4];
          Real shares[4];
          stage.get(seat.own * kGroup + part + i, places, shares);
          Packet<Value, kVector> corners[4];
#pragma unroll
          for (int corner = 0; corner < 4; ++corner) {
            const bool reads = mine && places[corner] >= 0;
            if (reads) corners[corner].load(values_of_head + places[corner] * token_step + channel);
          }
#pragma unroll
          for (int corner = 0; corner < 4; ++corner) {
            Real values[kVector];
            corners[corner].widen(values);
#pragma unroll
            for (int c = 0; c < kVector; ++c) products[corner][i] += gradient[c] * values[c];
            if (grad_value && mine && places[corner] >= 0) {
              scatter(grad_value + places[corner] * token_step + channel, shares[corner], gradient);
            }
          }
          // Keeps the compiler from loading more samples' corners ahead than there are registers for.
          __syncwarp();
        }
      }
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) {
        Real total = sum_transposed<kFold>(products[corner], seat.lane);
#pragma unroll
        for (int step = kFold; step < kGroup; step *= 2) total += __shfl_xor_sync(kAllLanes, total, step);
        if (seat.member / kFold == part / kFold) own_products[corner] = total;
      }
    }
    if (exists) store_sample_gradients(problem, pair * samples + number, sample, own_products);
    __syncwarp();
  }
}

// One warp has a level of a head and 32 channels, a lane one of them, and takes the samples in their order.
template <typename Value>
__global__ void __launch_bounds__(32) deformable_value_gradient(const CudaProblem problem) {
  using Real = RealOf<Value>;
  __shared__ Stage<Real> stage;
  const int lane = threadIdx.x, dim = problem.head_dim, chunks = (dim + 31) / 32;
  const int level = blockIdx.x / chunks % problem.levels, channel = blockIdx.x % chunks * 32 + lane;
  const unsigned map = blockIdx.x / chunks / problem.levels;
  const int head = map % problem.heads;
  const int64_t batch = map / problem.heads, token_step = int64_t{problem.heads} * dim;
  const int64_t samples = problem.queries * problem.points;
  Real* target = static_cast<Real*>(problem.grad_value) + batch * problem.tokens * token_step + head * dim + channel;
  for (int64_t first = 0; first < samples; first += 32) {
    const int64_t own = first + lane, own_query = own / problem.points;
    const int64_t own_pair = (batch * problem.queries + own_query) * problem.heads + head;
    const int number = level * problem.points + static_cast<int>(own % problem.points);
    const int64_t per_pair = int64_t{problem.levels} * problem.points;
    stage.put(lane, own < samples ? find_sample<Real>(problem, own_pair * per_pair, number) : Sample<Real>());
    __syncwarp();
    for (int i = 0; i < 32 && first + i < samples && channel < dim; ++i) {
      const int64_t pair = (batch * problem.queries + (first + i) / problem.points) * problem.heads + head;
      const Real gradient = widened(static_cast<const Value*>(problem.grad_output)[pair * dim + channel]);
      for (int corner = 0; corner < 4; ++corner) {
        const int place = stage.place[i][corner];
        if (place >= 0) target[place * token_step] += stage.share[i][corner] * gradient;
      }
    }
    __syncwarp();
  }
}

}  // namespace segzoo
