// The CUDA kernels of segzoo::neighborhood_attention_2d, registered through PyTorch's stable ABI.
//
// Here: reading tensors, making new ones, and the choice between tensor cores (half precision) and plain kernels.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <limits>
#include <tuple>
#include <vector>

#include "../shared/cuda_tensor.cuh"
#include "cuda_plan.cuh"
#include "cuda_runs.cuh"
#include "tensors.h"

namespace {

using segzoo::CudaProblem;
using segzoo::Device;
using segzoo::DeviceTokens;
using segzoo::Precision;
using segzoo::ScalarType;
using segzoo::Tensor;
using torch::stable::accelerator::DeviceGuard;

constexpr const char* kForward = "neighborhood attention";
constexpr const char* kBackward = "neighborhood attention's backward";
constexpr int64_t kMostHeadDim = 128;

Precision precision_of(const Tensor& query) {
  switch (query.scalar_type()) {
    case ScalarType::Float: return Precision::kFloat;
    case ScalarType::Double: return Precision::kDouble;
    case ScalarType::Half: return Precision::kHalf;
    case ScalarType::BFloat16: return Precision::kBFloat16;
    default: STD_TORCH_CHECK(false, "neighborhood attention: float64, float32, bfloat16 and float16 only");
  }
  return Precision::kFloat;
}

ScalarType sums_of(const Tensor& query) {
  return query.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

Device device_of(const Tensor& query) {
  int bytes = 0, major = 0;
  const int index = query.get_device_index();
  const bool known = cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, index) == cudaSuccess &&
                     cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index) == cudaSuccess;
  STD_TORCH_CHECK(known && major >= 8, "neighborhood attention: the CUDA kernels need compute capability 8.0 or newer; "
                  "set SEGZOO_KERNELS=reference");
  return {bytes, segzoo::stream_of(query)};
}

bool starts_aligned(const Tensor& tensor) {
  const int64_t in_16_bytes = 16 / tensor.element_size();
  bool aligned = reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0 && tensor.stride(4) == 1;
  for (int d = 0; d < 4; ++d) aligned &= tensor.stride(d) % in_16_bytes == 0;
  return aligned && tensor.size(4) % in_16_bytes == 0;
}

// Tensor cores read 16 bytes at a time; what lies otherwise is copied first. Views of a fused projection are not.
Tensor ready(const Tensor& tensor) {
  const bool can_help = tensor.element_size() == 2 && tensor.size(4) % 8 == 0;
  return !can_help || starts_aligned(tensor) ? tensor : torch::stable::clone(torch::stable::contiguous(tensor));
}

DeviceTokens tokens(const Tensor& tensor) {
  return {tensor.const_data_ptr(), tensor.stride(0), tensor.stride(1), tensor.stride(2), tensor.stride(3),
          tensor.stride(4)};
}

std::optional<Tensor> ready_bias(const std::optional<Tensor>& bias, ScalarType sums) {
  if (!bias) return std::nullopt;
  return torch::stable::contiguous(bias->scalar_type() == sums ? *bias : torch::stable::to(*bias, sums));
}

void check_cuda(const Tensor& query, std::initializer_list<const Tensor*> others, const std::optional<Tensor>& bias) {
  const auto same = [&](const Tensor& other) {
    return other.is_cuda() && other.get_device_index() == query.get_device_index();
  };
  bool together = !bias || same(*bias);
  for (const Tensor* other : others) together &= same(*other);
  STD_TORCH_CHECK(together, "neighborhood attention: all tensors must be on one device");
  STD_TORCH_CHECK(query.size(4) >= 1 && query.size(4) <= kMostHeadDim, "neighborhood attention: a head dimension of ",
                  query.size(4), "; the CUDA kernels take 1 to ", kMostHeadDim, "; set SEGZOO_KERNELS=reference");
  for (int d = 0; d < 5; ++d) {
    STD_TORCH_CHECK(query.size(d) < std::numeric_limits<int32_t>::max(), "neighborhood attention: dimension ", d,
                    " has 2^31 or more elements");
  }
}

CudaProblem describe(const Tensor& query, const Tensor& key, const Tensor& value, const std::optional<Tensor>& bias,
                     int64_t kernel, int64_t dilation, double scale) {
  CudaProblem problem{};
  problem.shape = {static_cast<int>(query.size(0)), static_cast<int>(query.size(1)), static_cast<int>(query.size(2)),
                   static_cast<int>(query.size(3)), static_cast<int>(query.size(4)), static_cast<int>(kernel),
                   static_cast<int>(dilation)};
  problem.scale = scale;
  problem.query = tokens(query);
  problem.key = tokens(key);
  problem.value = tokens(value);
  problem.bias = bias ? bias->const_data_ptr() : nullptr;
  segzoo::set_classes(problem);
  return problem;
}

// The tensor-core kernels step from row to row of a class with 32 bits.
bool steps_fit(const CudaProblem& problem) {
  const int64_t most = std::numeric_limits<int32_t>::max(), dilation = problem.shape.dilation;
  bool fit = static_cast<int64_t>(problem.shape.width) * problem.shape.heads * dilation <= most;
  for (const DeviceTokens* tokens : {&problem.query, &problem.key, &problem.value, &problem.grad_output}) {
    fit &= 2 * dilation * std::max(tokens->row, tokens->column) <= most;
  }
  return fit;
}

// Which kernels take the problem: tensor cores where the head dimension is a multiple of 8 and the tile fits.
bool takes_matrix(const Tensor& query, const CudaProblem& problem, const segzoo::MatrixSpace& space) {
  return query.element_size() == 2 && query.size(4) % 8 == 0 && space.error == nullptr && steps_fit(problem);
}

template <typename Run>
const char* for_head_dim(int64_t head_dim, const Run& run) {
  switch (segzoo::padded_head_dim(head_dim)) {
    case 16: return run(std::integral_constant<int, 16>{});
    case 32: return run(std::integral_constant<int, 32>{});
    case 64: return run(std::integral_constant<int, 64>{});
    default: return run(std::integral_constant<int, 128>{});
  }
}

std::vector<int64_t> sizes(const Tensor& tensor, int dimensions) {
  std::vector<int64_t> result;
  for (int d = 0; d < dimensions; ++d) result.push_back(tensor.size(d));
  return result;
}

const char* start_forward(const Tensor& query, CudaProblem& problem, bool aligned) {
  const Device device = device_of(query);
  const segzoo::MatrixSpace space = segzoo::matrix_forward_space(problem, device.shared_bytes);
  if (!takes_matrix(query, problem, space)) return segzoo::plain_forward(problem, precision_of(query), aligned, device);
  const Tensor table = torch::stable::new_empty(query, {4 * space.table}, ScalarType::Float);
  problem.table = static_cast<float4*>(table.mutable_data_ptr());
  problem.tiles = space.tiles;
  return for_head_dim(query.size(4), [&](auto head_dim) {
    return segzoo::matrix_forward<decltype(head_dim)::value>(problem, precision_of(query), device);
  });
}

std::tuple<Tensor, Tensor> forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                   const std::optional<Tensor>& bias, int64_t kernel, int64_t dilation, double scale) {
  segzoo::check_inputs(query, key, value, bias, kernel, dilation);
  check_cuda(query, {&key, &value}, bias);
  const DeviceGuard guard(query.get_device_index());
  const Tensor q = ready(query), k = ready(key), v = ready(value);
  const auto b = ready_bias(bias, sums_of(query));
  Tensor output = torch::stable::new_empty(query, sizes(query, 5));
  Tensor logsumexp = torch::stable::new_empty(query, sizes(query, 4), sums_of(query));
  if (output.numel() == 0) return {output, logsumexp};
  CudaProblem problem = describe(q, k, v, b, kernel, dilation, scale);
  problem.output = output.mutable_data_ptr();
  problem.logsumexp = logsumexp.mutable_data_ptr();
  const bool aligned = starts_aligned(q) && starts_aligned(k) && starts_aligned(v);
  segzoo::require_launched(kForward, start_forward(q, problem, aligned));
  return {output, logsumexp};
}

const char* start_backward(const Tensor& query, CudaProblem& problem, void* grad_bias, bool aligned) {
  const Device device = device_of(query);
  const segzoo::MatrixSpace space = segzoo::matrix_backward_space(problem, device.shared_bytes);
  const bool matrix = takes_matrix(query, problem, space);
  const int64_t width = 2 * problem.shape.kernel - 1, heads = problem.shape.heads;
  const int64_t parts = matrix ? space.parts : segzoo::plain_bias_parts(problem);
  const int64_t cells = problem.bias ? heads * parts * width * width : 0;
  const Tensor bias_parts = torch::stable::new_empty(query, {cells}, sums_of(query));
  const Tensor row_sum =
      torch::stable::new_empty(query, {query.numel() / query.size(4)}, sums_of(query));
  problem.bias_parts = problem.bias ? bias_parts.mutable_data_ptr() : nullptr;
  problem.row_sum = row_sum.mutable_data_ptr();
  if (!matrix) return segzoo::plain_backward(problem, precision_of(query), aligned, grad_bias, device);
  const Tensor table = torch::stable::new_empty(query, {4 * space.table}, ScalarType::Float);
  problem.table = static_cast<float4*>(table.mutable_data_ptr());
  problem.tiles = space.tiles;
  return for_head_dim(query.size(4), [&](auto head_dim) {
    return segzoo::matrix_backward<decltype(head_dim)::value>(problem, precision_of(query), grad_bias, device);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad_output, const Tensor& query, const Tensor& key,
                                                    const Tensor& value, const std::optional<Tensor>& bias,
                                                    const Tensor& output, const Tensor& logsumexp, int64_t kernel,
                                                    int64_t dilation, double scale) {
  segzoo::check_inputs(query, key, value, bias, kernel, dilation);
  segzoo::check_like_query(grad_output, query, "grad_output");
  segzoo::check_like_query(output, query, "output");
  segzoo::check_logsumexp(logsumexp, query, sums_of(query));
  check_cuda(query, {&key, &value, &grad_output, &output, &logsumexp}, bias);
  const DeviceGuard guard(query.get_device_index());
  const Tensor q = ready(query), k = ready(key), v = ready(value), g = ready(grad_output);
  const Tensor o = torch::stable::contiguous(output), l = torch::stable::contiguous(logsumexp);
  const auto b = ready_bias(bias, sums_of(query));
  Tensor grad_query = torch::stable::new_empty(query, sizes(query, 5));
  Tensor grad_key = torch::stable::new_empty(query, sizes(query, 5));
  Tensor grad_value = torch::stable::new_empty(query, sizes(query, 5));
  const std::vector<int64_t> bias_shape = b ? sizes(*b, 3) : std::vector<int64_t>{0};
  Tensor grad_bias = torch::stable::new_zeros(query, bias_shape, sums_of(query));
  const auto narrow = [&] {
    return bias && bias->scalar_type() != sums_of(query) ? torch::stable::to(grad_bias, bias->scalar_type()) : grad_bias;
  };
  if (grad_query.numel() == 0) return {grad_query, grad_key, grad_value, narrow()};
  CudaProblem problem = describe(q, k, v, b, kernel, dilation, scale);
  problem.grad_output = tokens(g);
  problem.output = o.mutable_data_ptr();
  problem.logsumexp = l.mutable_data_ptr();
  problem.grad_query = grad_query.mutable_data_ptr();
  problem.grad_key = grad_key.mutable_data_ptr();
  problem.grad_value = grad_value.mutable_data_ptr();
  const bool aligned = starts_aligned(q) && starts_aligned(k) && starts_aligned(v) && starts_aligned(g) && starts_aligned(o);
  segzoo::require_launched(kBackward, start_backward(q, problem, grad_bias.mutable_data_ptr(), aligned));
  return {grad_query, grad_key, grad_value, narrow()};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(segzoo, CUDA, library) {
  library.impl("neighborhood_attention_2d", TORCH_BOX(&forward));
  library.impl("neighborhood_attention_2d_backward", TORCH_BOX(&backward));
}
