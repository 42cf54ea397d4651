// The CUDA kernels of segzoo::deformable_attention, registered through PyTorch's stable ABI.
//
// Here: reading tensors and making new ones. The choice of a kernel is in cuda_launches.cuh.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <limits>
#include <tuple>

#include "../shared/cuda_tensor.cuh"
#include "cuda_launches.cuh"
#include "tensors.h"

namespace {

using segzoo::CudaProblem;
using segzoo::ScalarType;
using segzoo::Tensor;
using torch::stable::accelerator::DeviceGuard;

CudaProblem describe(const Tensor& value, const std::vector<int64_t>& shapes, const Tensor& locations,
                     const Tensor& weights) {
  const int64_t levels = static_cast<int64_t>(shapes.size()) / 2, most = std::numeric_limits<int32_t>::max();
  STD_TORCH_CHECK(levels <= segzoo::kMostLevels, "deformable attention: ", levels, " levels; CUDA takes at most ",
                  segzoo::kMostLevels);
  STD_TORCH_CHECK(value.size(1) <= most && value.size(2) * value.size(3) <= most && levels * weights.size(4) <= most,
                  "deformable attention: tokens, channels and points must each be fewer than 2^31");
  CudaProblem problem{};
  problem.batch = value.size(0);
  problem.tokens = value.size(1);
  problem.heads = static_cast<int>(value.size(2));
  problem.head_dim = static_cast<int>(value.size(3));
  problem.queries = locations.size(1);
  problem.levels = static_cast<int>(levels);
  problem.points = static_cast<int>(locations.size(4));
  int start = 0;
  for (int level = 0; level < problem.levels; ++level) {
    problem.height[level] = static_cast<int>(shapes[2 * level]);
    problem.width[level] = static_cast<int>(shapes[2 * level + 1]);
    problem.start[level] = start;
    start += problem.height[level] * problem.width[level];
  }
  problem.value = value.const_data_ptr();
  problem.locations = locations.const_data_ptr();
  problem.weights = weights.const_data_ptr();
  return problem;
}

template <typename Run>
void for_type(ScalarType dtype, const char* pass, const Run& run) {
  const char* error = "value must be float64, float32, bfloat16 or float16";
  if (dtype == ScalarType::Double) error = run(double{});
  else if (dtype == ScalarType::Float) error = run(float{});
  else if (dtype == ScalarType::BFloat16) error = run(__nv_bfloat16{});
  else if (dtype == ScalarType::Half) error = run(__half{});
  segzoo::require_launched(pass, error);
}

void check_devices(const Tensor& value, const Tensor& locations, const Tensor& weights) {
  const auto place = value.get_device_index();
  STD_TORCH_CHECK(locations.is_cuda() && weights.is_cuda() && locations.get_device_index() == place &&
                      weights.get_device_index() == place,
                  "deformable attention: value, locations and weights must be on one device");
}

Tensor forward(const Tensor& value, const std::vector<int64_t> shapes, const Tensor& locations,
               const Tensor& weights) {
  segzoo::check_inputs(value, shapes, locations, weights);
  check_devices(value, locations, weights);
  const DeviceGuard guard(value.get_device_index());
  const Tensor v = torch::stable::contiguous(value), l = torch::stable::contiguous(locations);
  const Tensor w = torch::stable::contiguous(weights);
  CudaProblem problem = describe(v, shapes, l, w);
  const std::vector<int64_t> shape = {problem.batch, problem.queries, int64_t{problem.heads} * problem.head_dim};
  Tensor output = torch::stable::new_empty(v, shape);
  problem.output = output.mutable_data_ptr();
  const cudaStream_t stream = segzoo::stream_of(v);
  for_type(value.scalar_type(), "deformable attention", [&](auto example) {
    return segzoo::run_forward<decltype(example)>(problem, stream);
  });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad_output, const Tensor& value,
                                            const std::vector<int64_t> shapes, const Tensor& locations,
                                            const Tensor& weights, bool deterministic) {
  segzoo::check_inputs(value, shapes, locations, weights);
  segzoo::check_grad_output(grad_output, value, locations);
  check_devices(value, locations, weights);
  const DeviceGuard guard(value.get_device_index());
  const Tensor g = torch::stable::contiguous(grad_output), v = torch::stable::contiguous(value);
  const Tensor l = torch::stable::contiguous(locations), w = torch::stable::contiguous(weights);
  CudaProblem problem = describe(v, shapes, l, w);
  const std::vector<int64_t> shape = {problem.batch, problem.tokens, problem.heads, problem.head_dim};
  Tensor grad_value = torch::stable::new_zeros(v, shape, segzoo::computing_type(v));
  Tensor grad_locations = torch::stable::empty_like(l), grad_weights = torch::stable::empty_like(w);
  problem.grad_output = g.const_data_ptr();
  problem.grad_value = grad_value.mutable_data_ptr();
  problem.grad_locations = grad_locations.mutable_data_ptr();
  problem.grad_weights = grad_weights.mutable_data_ptr();
  problem.deterministic = deterministic;
  const cudaStream_t stream = segzoo::stream_of(v);
  for_type(value.scalar_type(), "deformable attention's backward", [&](auto example) {
    return segzoo::run_backward<decltype(example)>(problem, stream);
  });
  const ScalarType narrow = value.scalar_type();
  if (grad_value.scalar_type() != narrow) grad_value = torch::stable::to(grad_value, narrow);
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(segzoo, CUDA, library) {
  library.impl("deformable_attention", TORCH_BOX(&forward));
  library.impl("deformable_attention_backward", TORCH_BOX(&backward));
}
