// The classic mapping of multi-scale deformable attention to CUDA, as a rival: a thread for each channel of the output,
// which works out places and shares of every sample itself, reads one number a corner, and in the backward pass adds to
// the values' gradient number by number and reduces the other two over the channels in shared memory. float32 only.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/Exception.h>

#include <tuple>
#include <vector>

#include "../../csrc/shared/cuda_tensor.cuh"

namespace {

using torch::stable::Tensor;

constexpr int kMostLevels = 8;

struct Problem {
  int tokens, heads, dim, levels, points, queries;
  long threads;
  int height[kMostLevels], width[kMostLevels], start[kMostLevels];
};

// The corners of one sample: offsets of the tokens (-1 outside) and shares.
struct Corners {
  int token[4];
  float share[4];
  float across, down;
};

__device__ Corners corners_of(const Problem& p, int level, float x, float y) {
  Corners found;
  const int height = p.height[level], width = p.width[level];
  const float column = x * width - 0.5f, row = y * height - 0.5f;
  const int left = static_cast<int>(floorf(column)), top = static_cast<int>(floorf(row));
  found.across = column - left;
  found.down = row - top;
  for (int corner = 0; corner < 4; ++corner) {
    const int c = left + corner % 2, r = top + corner / 2;
    const bool inside = c >= 0 && c < width && r >= 0 && r < height;
    found.token[corner] = inside ? p.start[level] + r * width + c : -1;
    found.share[corner] = (corner % 2 ? found.across : 1 - found.across) * (corner / 2 ? found.down : 1 - found.down);
  }
  return found;
}

__global__ void classic_forward(Problem p, const float* value, const float* locations, const float* weights,
                                float* output) {
  const long index = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x;
  if (index >= p.threads) return;
  const int channel = index % p.dim;
  const long pair = index / p.dim;
  const int head = pair % p.heads;
  const long batch = pair / p.heads / p.queries;
  const float* values = value + (batch * p.tokens * p.heads + head) * p.dim + channel;
  const long step = static_cast<long>(p.heads) * p.dim;
  long sample = pair * p.levels * p.points;
  float sum = 0;
  for (int level = 0; level < p.levels; ++level) {
    for (int point = 0; point < p.points; ++point, ++sample) {
      const Corners corners = corners_of(p, level, locations[2 * sample], locations[2 * sample + 1]);
      float read = 0;
      for (int corner = 0; corner < 4; ++corner) {
        if (corners.token[corner] >= 0) read += corners.share[corner] * values[corners.token[corner] * step];
      }
      sum += weights[sample] * read;
    }
  }
  output[index] = sum;
}

// A block has the channels of one query and head.
__global__ void classic_backward(Problem p, const float* grad_output, const float* value, const float* locations,
                                 const float* weights, float* grad_value, float* grad_locations,
                                 float* grad_weights) {
  extern __shared__ float parts[];  // [3, dim]
  const int channel = threadIdx.x;
  const long pair = blockIdx.x;
  const int head = pair % p.heads;
  const long batch = pair / p.heads / p.queries, step = static_cast<long>(p.heads) * p.dim;
  const long base = (batch * p.tokens * p.heads + head) * p.dim + channel;
  const float gradient = grad_output[pair * p.dim + channel];
  long sample = pair * p.levels * p.points;
  for (int level = 0; level < p.levels; ++level) {
    for (int point = 0; point < p.points; ++point, ++sample) {
      const Corners corners = corners_of(p, level, locations[2 * sample], locations[2 * sample + 1]);
      const float weight = weights[sample];
      float read[4];
      for (int corner = 0; corner < 4; ++corner) {
        const long place = base + corners.token[corner] * step;
        read[corner] = corners.token[corner] >= 0 ? value[place] : 0;
        if (corners.token[corner] >= 0) atomicAdd(grad_value + place, corners.share[corner] * weight * gradient);
      }
      const float top = read[1] - read[0], bottom = read[3] - read[2], left = read[2] - read[0], right = read[3] - read[1];
      parts[channel] = gradient * (read[0] * corners.share[0] + read[1] * corners.share[1] +
                                   read[2] * corners.share[2] + read[3] * corners.share[3]);
      parts[p.dim + channel] = gradient * weight * p.width[level] * (top + corners.down * (bottom - top));
      parts[2 * p.dim + channel] = gradient * weight * p.height[level] * (left + corners.across * (right - left));
      __syncthreads();
      // A tree over the channels; odd ones out are added by their neighbour.
      for (int count = p.dim; count > 1; count = (count + 1) / 2) {
        const int upper = (count + 1) / 2;
        if (channel < count / 2) {
          for (int part = 0; part < 3; ++part) parts[part * p.dim + channel] += parts[part * p.dim + upper + channel];
        }
        __syncthreads();
      }
      if (channel == 0) {
        grad_weights[sample] = parts[0];
        grad_locations[2 * sample] = parts[p.dim];
        grad_locations[2 * sample + 1] = parts[2 * p.dim];
      }
      __syncthreads();
    }
  }
}

Problem describe(const Tensor& value, const std::vector<int64_t>& shapes, const Tensor& locations) {
  STD_TORCH_CHECK(shapes.size() <= 2 * kMostLevels && value.is_contiguous() && locations.is_contiguous(),
                  "the classic rival takes contiguous tensors of at most ", kMostLevels, " levels");
  Problem p{};
  p.tokens = value.size(1), p.heads = value.size(2), p.dim = value.size(3);
  p.queries = locations.size(1), p.levels = shapes.size() / 2, p.points = locations.size(4);
  p.threads = value.size(0) * locations.size(1) * value.size(2) * value.size(3);
  for (int level = 0, start = 0; level < p.levels; ++level) {
    p.height[level] = shapes[2 * level], p.width[level] = shapes[2 * level + 1], p.start[level] = start;
    start += p.height[level] * p.width[level];
  }
  return p;
}

const float* read(const Tensor& tensor) { return static_cast<const float*>(tensor.const_data_ptr()); }
float* write(Tensor& tensor) { return static_cast<float*>(tensor.mutable_data_ptr()); }

void require_launched() {
  const cudaError_t error = cudaGetLastError();
  segzoo::require_launched("the classic rival", error == cudaSuccess ? nullptr : cudaGetErrorString(error));
}

Tensor forward(const Tensor& value, const std::vector<int64_t> shapes, const Tensor& locations,
               const Tensor& weights) {
  constexpr int kThreads = 1024;
  const Problem p = describe(value, shapes, locations);
  const std::vector<int64_t> shape = {value.size(0), p.queries, int64_t{p.heads} * p.dim};
  Tensor output = torch::stable::new_empty(value, shape);
  classic_forward<<<(p.threads + kThreads - 1) / kThreads, kThreads, 0, segzoo::stream_of(value)>>>(
      p, read(value), read(locations), read(weights), write(output));
  require_launched();
  return output;
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad_output, const Tensor& value,
                                            const std::vector<int64_t> shapes, const Tensor& locations,
                                            const Tensor& weights) {
  const Problem p = describe(value, shapes, locations);
  const std::vector<int64_t> shape = {value.size(0), p.tokens, p.heads, p.dim};
  Tensor grad_value = torch::stable::new_zeros(value, shape);
  Tensor grad_locations = torch::stable::empty_like(locations), grad_weights = torch::stable::empty_like(weights);
  classic_backward<<<p.threads / p.dim, p.dim, 3 * p.dim * sizeof(float), segzoo::stream_of(value)>>>(
      p, read(grad_output), read(value), read(locations), read(weights), write(grad_value), write(grad_locations),
      write(grad_weights));
  require_launched();
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace

STABLE_TORCH_LIBRARY(segzoo_rivals, library) {
  library.def("deformable_classic(Tensor value, int[] shapes, Tensor locations, Tensor weights) -> Tensor");
  library.def(
      "deformable_classic_backward(Tensor grad_output, Tensor value, int[] shapes, Tensor locations, Tensor weights) "
      "-> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(segzoo_rivals, CUDA, library) {
  library.impl("deformable_classic", TORCH_BOX(&forward));
  library.impl("deformable_classic_backward", TORCH_BOX(&backward));
}
