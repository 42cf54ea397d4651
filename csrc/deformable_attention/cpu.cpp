// The CPU kernels of segzoo::deformable_attention, registered through PyTorch's stable ABI.
//
// Here: reading tensors, choosing the processor variant, passes and threads. The arithmetic is in
// cpu_variant.cpp.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <tuple>
#include <type_traits>
#include <vector>

#include "../shared/processor.h"
#include "../shared/threads.h"
#include "problem.h"
#include "tensors.h"

namespace {

using segzoo::Level;
using segzoo::Memory;
using segzoo::Problem;
using segzoo::run_units;
using segzoo::ScalarType;
using segzoo::Tensor;

const segzoo::Variants& variants() {
  static const segzoo::Variants& chosen = segzoo::on_this_processor(
      [](auto best) -> const segzoo::Variants& { return segzoo::variants(best); });
  return chosen;
}

template <typename Real>
const segzoo::Variant<Real>& variant() {
  if constexpr (std::is_same_v<Real, float>) return variants().single;
  else return variants().twice;
}

std::vector<Level> levels_of(const std::vector<int64_t>& shapes) {
  std::vector<Level> levels;
  long start = 0;
  for (size_t i = 0; i < shapes.size(); i += 2) {
    levels.push_back({shapes[i], shapes[i + 1], start});
    start += shapes[i] * shapes[i + 1];
  }
  return levels;
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
  run_units<Real>(problem.batch * segzoo::token_blocks(problem), 1,
                  [&](long unit, Real*) { kernels.pack(problem, unit); });
  run_units<Real>(heads * blocks, kernels.forward_scratch(problem),
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
  run_units<Real>(problem.batch * segzoo::token_blocks(problem), 1,
                  [&](long unit, Real*) { kernels.pack(problem, unit); });
  run_units<Real>(heads * problem.level_count, kernels.backward_scratch(problem),
                  [&](long unit, Real* scratch) { kernels.backward(problem, unit, scratch); });
  run_units<Real>(problem.batch * segzoo::token_blocks(problem), 1,
                  [&](long unit, Real*) { kernels.unpack_gradient(problem, unit); });
  return {grad_value, grad_locations, grad_weights};
}

// Half precision is computed on float32 copies.
Tensor cast(const Tensor& tensor, ScalarType dtype) {
  return tensor.scalar_type() == dtype ? tensor : torch::stable::to(tensor, dtype);
}

Tensor dense(const Tensor& tensor, ScalarType dtype) { return torch::stable::contiguous(cast(tensor, dtype)); }

Tensor forward_any(const Tensor& value, const std::vector<int64_t> shapes, const Tensor& locations,
                   const Tensor& weights) {
  segzoo::check_inputs(value, shapes, locations, weights);
  const std::vector<Level> levels = levels_of(shapes);
  const ScalarType wide = segzoo::computing_type(value);
  const Tensor v = dense(value, wide), l = torch::stable::contiguous(locations);
  const Tensor w = torch::stable::contiguous(weights);
  const Problem problem = describe(v, levels, l, w);
  return cast(wide == ScalarType::Double ? forward<double>(problem, v) : forward<float>(problem, v),
              value.scalar_type());
}

// Sums never depend on threads, so that `deterministic` changes nothing here.
std::tuple<Tensor, Tensor, Tensor> backward_any(const Tensor& grad_output, const Tensor& value,
                                                const std::vector<int64_t> shapes, const Tensor& locations,
                                                const Tensor& weights, bool /*deterministic*/) {
  segzoo::check_inputs(value, shapes, locations, weights);
  segzoo::check_grad_output(grad_output, value, locations);
  const std::vector<Level> levels = levels_of(shapes);
  const ScalarType wide = segzoo::computing_type(value);
  const Tensor g = dense(grad_output, wide), v = dense(value, wide);
  const Tensor l = torch::stable::contiguous(locations), w = torch::stable::contiguous(weights);
  const Problem problem = describe(v, levels, l, w);
  auto [grad_value, grad_locations, grad_weights] =
      wide == ScalarType::Double ? backward<double>(problem, g, v, l, w) : backward<float>(problem, g, v, l, w);
  return {cast(grad_value, value.scalar_type()), grad_locations, grad_weights};
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
