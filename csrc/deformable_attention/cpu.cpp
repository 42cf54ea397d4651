// The CPU kernels of segzoo::deformable_attention, registered through PyTorch's stable ABI.
//
// Here: reading tensors, choosing the processor variant, passes and threads. The arithmetic is in
// cpu_variant.cpp.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <tuple>
#include <type_traits>
#include <vector>

#include "../shared/processor.h"
#include "../shared/threads.h"
#include "problem.h"

namespace {

using segzoo::Level;
using segzoo::Memory;
using segzoo::Problem;
using segzoo::run_units;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

const segzoo::Variants& variants() {
#if defined(__x86_64__)
  static constexpr auto all = {segzoo::portable_variants, segzoo::avx2_variants, segzoo::avx512_variants};
#else
  static constexpr auto all = {segzoo::portable_variants};
#endif
  static const segzoo::Variants& chosen = all.begin()[segzoo::processor_variant()]();
  return chosen;
}

template <typename Real>
const segzoo::Variant<Real>& variant() {
  if constexpr (std::is_same_v<Real, float>) return variants().single;
  else return variants().twice;
}

std::vector<Level> levels_of(const std::vector<int64_t>& shapes) {
  STD_TORCH_CHECK(!shapes.empty() && shapes.size() % 2 == 0,
                  "deformable attention: spatial_shapes must be pairs of height and width");
  std::vector<Level> levels;
  long start = 0;
  for (size_t i = 0; i < shapes.size(); i += 2) {
    STD_TORCH_CHECK(shapes[i] > 0 && shapes[i + 1] > 0, "deformable attention: a level without tokens");
    levels.push_back({shapes[i], shapes[i + 1], start});
    start += shapes[i] * shapes[i + 1];
  }
  return levels;
}

// Shapes are checked here too: the operator can be called past its Python function.
void check(const Tensor& value, const std::vector<Level>& levels, const Tensor& locations, const Tensor& weights) {
  STD_TORCH_CHECK(value.dim() == 4 && locations.dim() == 6 && weights.dim() == 5,
                  "deformable attention: value, locations and weights must have 4, 6 and 5 dimensions");
  const long tokens = levels.back().start + levels.back().height * levels.back().width;
  STD_TORCH_CHECK(value.size(1) == tokens, "deformable attention: value has ", value.size(1), " tokens, the levels ",
                  tokens);
  STD_TORCH_CHECK(locations.size(0) == value.size(0) && locations.size(2) == value.size(2) &&
                      locations.size(3) == static_cast<int64_t>(levels.size()) && locations.size(5) == 2,
                  "deformable attention: locations do not fit value and levels");
  for (int64_t d = 0; d < 5; ++d) {
    STD_TORCH_CHECK(weights.size(d) == locations.size(d),
                    "deformable attention: weights differ from locations in dimension ", d);
  }
  const ScalarType dtype = value.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Double,
                  "deformable attention: float64 and float32 only");
  STD_TORCH_CHECK(locations.scalar_type() == dtype && weights.scalar_type() == dtype,
                  "deformable attention: value, locations and weights must be of one dtype");
}

Problem describe(const Tensor& value, const std::vector<Level>& levels, const Tensor& locations,
                 const Tensor& weights) {
  Problem problem{};
  problem.batch = value.size(0);
  problem.tokens = value.size(1);
  problem.heads = value.size(2);
  problem.head_dim = value.size(3);
  problem.queries = locations.size(1);
  problem.points = locations.size(4);
  problem.levels = levels.data();
  problem.level_count = static_cast<long>(levels.size());
  problem.value = value.const_data_ptr();
  problem.locations = locations.const_data_ptr();
  problem.weights = weights.const_data_ptr();
  return problem;
}

template <typename Real>
long padded_dim(const Problem& problem) {
  const long lanes = variant<Real>().lanes;
  return (problem.head_dim + lanes - 1) / lanes * lanes;
}

template <typename Real>
Tensor forward(Problem problem, const Tensor& value) {
  const std::vector<int64_t> shape = {problem.batch, problem.queries, problem.heads * problem.head_dim};
  Tensor output = torch::stable::new_empty(value, shape);
  const auto& kernels = variant<Real>();
  const long heads = problem.batch * problem.heads, width = padded_dim<Real>(problem);
  const long blocks = (problem.queries + segzoo::kQueriesAUnit - 1) / segzoo::kQueriesAUnit;
  const Memory<Real> packed(heads * problem.tokens * width);
  problem.packed_value = packed.get();
  problem.output = output.mutable_data_ptr();
  run_units<Real>(heads, 1, [&](long unit, Real*) { kernels.pack(problem, unit); });
  run_units<Real>(heads * blocks, width,
                  [&](long unit, Real* scratch) { kernels.forward(problem, unit, scratch); });
  return output;
}

template <typename Real>
std::tuple<Tensor, Tensor, Tensor> backward(Problem problem, const Tensor& grad_output, const Tensor& value,
                                            const Tensor& locations, const Tensor& weights) {
  Tensor grad_value = torch::stable::empty_like(value);
  Tensor grad_locations = torch::stable::empty_like(locations);
  Tensor grad_weights = torch::stable::empty_like(weights);
  const auto& kernels = variant<Real>();
  const long heads = problem.batch * problem.heads, width = padded_dim<Real>(problem);
  const Memory<Real> packed(heads * problem.tokens * width), packed_grad(heads * problem.tokens * width);
  problem.packed_value = packed.get();
  problem.packed_grad = packed_grad.get();
  problem.grad_output = grad_output.const_data_ptr();
  problem.grad_value = grad_value.mutable_data_ptr();
  problem.grad_locations = grad_locations.mutable_data_ptr();
  problem.grad_weights = grad_weights.mutable_data_ptr();
  run_units<Real>(heads, 1, [&](long unit, Real*) { kernels.pack(problem, unit); });
  run_units<Real>(heads * problem.level_count, width,
                  [&](long unit, Real* scratch) { kernels.backward(problem, unit, scratch); });
  run_units<Real>(heads, 1, [&](long unit, Real*) { kernels.unpack_gradient(problem, unit); });
  return {grad_value, grad_locations, grad_weights};
}

Tensor forward_any(const Tensor& value, const std::vector<int64_t> shapes, const Tensor& locations,
                   const Tensor& weights) {
  const std::vector<Level> levels = levels_of(shapes);
  check(value, levels, locations, weights);
  const Tensor v = torch::stable::contiguous(value), l = torch::stable::contiguous(locations);
  const Tensor w = torch::stable::contiguous(weights);
  const Problem problem = describe(v, levels, l, w);
  return value.scalar_type() == ScalarType::Double ? forward<double>(problem, v) : forward<float>(problem, v);
}

std::tuple<Tensor, Tensor, Tensor> backward_any(const Tensor& grad_output, const Tensor& value,
                                                const std::vector<int64_t> shapes, const Tensor& locations,
                                                const Tensor& weights) {
  const std::vector<Level> levels = levels_of(shapes);
  check(value, levels, locations, weights);
  STD_TORCH_CHECK(grad_output.dim() == 3 && grad_output.size(0) == value.size(0) &&
                      grad_output.size(1) == locations.size(1) &&
                      grad_output.size(2) == value.size(2) * value.size(3) &&
                      grad_output.scalar_type() == value.scalar_type(),
                  "deformable attention: grad_output is not like the output");
  const Tensor g = torch::stable::contiguous(grad_output), v = torch::stable::contiguous(value);
  const Tensor l = torch::stable::contiguous(locations), w = torch::stable::contiguous(weights);
  const Problem problem = describe(v, levels, l, w);
  return value.scalar_type() == ScalarType::Double ? backward<double>(problem, g, v, l, w)
                                                   : backward<float>(problem, g, v, l, w);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(segzoo, CPU, library) {
  library.impl("deformable_attention", TORCH_BOX(&forward_any));
  library.impl("deformable_attention_backward", TORCH_BOX(&backward_any));
}

// What the loader reports: the name of the variant in use.
extern "C" __attribute__((visibility("default"))) const char* segzoo_deformable_attention_variant() {
  return variants().name;
}
