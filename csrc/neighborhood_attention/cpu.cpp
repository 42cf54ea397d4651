// The CPU kernels of segzoo::neighborhood_attention_2d, registered through PyTorch's stable ABI.
//
// Here: reading tensors, choosing the processor variant, threads. The cutting into pieces is in plan.h, the
// arithmetic in cpu_variant.cpp.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "../shared/processor.h"
#include "../shared/threads.h"
#include "plan.h"
#include "problem.h"
#include "window.h"

namespace {

using segzoo::bands_for;
using segzoo::Columns;
using segzoo::kBackwardUnits;
using segzoo::kForwardUnitsAThread;
using segzoo::Memory;
using segzoo::Problem;
using segzoo::run_units;
using segzoo::Tokens;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

const segzoo::Variants& variants() {
  static const segzoo::Variants& chosen = segzoo::on_this_processor(
      [](auto best) -> const segzoo::Variants& { return segzoo::variants(best); });
  return chosen;
}

template <typename Real>
constexpr ScalarType kComputed = std::is_same_v<Real, double> ? ScalarType::Double : ScalarType::Float;

// For tensors of `stored`, computing in Real.
template <typename Real>
const segzoo::Variant<Real>& variant(ScalarType stored) {
  if constexpr (std::is_same_v<Real, double>) return variants().twice;
  else return stored == ScalarType::BFloat16 ? variants().half : variants().single;
}

Tokens tokens(const Tensor& tensor) {
  return {tensor.const_data_ptr(), tensor.stride(0), tensor.stride(1),
          tensor.stride(2),        tensor.stride(3), tensor.stride(4)};
}

Problem describe(const Tensor& query, const Tensor& key, const Tensor& value, const Columns& columns,
                 int64_t kernel, int64_t dilation, double scale) {
  Problem problem{};
  problem.batch = query.size(0);
  problem.height = query.size(1);
  problem.width = query.size(2);
  problem.heads = query.size(3);
  problem.head_dim = query.size(4);
  problem.kernel = kernel;
  problem.dilation = dilation;
  problem.scale = scale;
  problem.query = tokens(query);
  problem.key = tokens(key);
  problem.value = tokens(value);
  problem.column_of_place = columns.column_of_place.data();
  problem.tiles = columns.tiles.data();
  problem.strips = columns.strips.data();
  problem.strip_count = static_cast<long>(columns.strips.size());
  problem.strip_keys = columns.strip_keys;
  return problem;
}

void check(const Tensor& tensor, const Tensor& query, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 5, "neighborhood attention: ", name, " must have 5 dimensions");
  for (int64_t d = 0; d < 5; ++d) {
    STD_TORCH_CHECK(tensor.size(d) == query.size(d), "neighborhood attention: ", name,
                    " differs from query in dimension ", d);
  }
  STD_TORCH_CHECK(tensor.scalar_type() == query.scalar_type(), "neighborhood attention: ", name,
                  " differs from query in dtype");
}

void check_all(const Tensor& query, const Tensor& key, const Tensor& value, const std::optional<Tensor>& bias,
               int64_t kernel, int64_t dilation) {
  check(query, query, "query");
  check(key, query, "key");
  check(value, query, "value");
  STD_TORCH_CHECK(kernel >= 3 && kernel % 2 == 1 && dilation >= 1,
                  "neighborhood attention: kernel_size must be odd and at least 3, dilation at least 1");
  // by division: a product of wild numbers could wrap around
  STD_TORCH_CHECK(std::min(query.size(1), query.size(2)) / kernel >= dilation,
                  "neighborhood attention: the map is smaller than kernel_size * dilation");
  if (bias) {
    STD_TORCH_CHECK(bias->dim() == 3 && bias->size(0) == query.size(3) && bias->size(1) == 2 * kernel - 1 &&
                        bias->size(2) == 2 * kernel - 1,
                    "neighborhood attention: bias must be [heads, 2 * kernel_size - 1, 2 * kernel_size - 1]");
  }
}

void check_logsumexp(const Tensor& logsumexp, const Tensor& query) {
  STD_TORCH_CHECK(logsumexp.dim() == 4, "neighborhood attention: logsumexp must have 4 dimensions");
  for (int64_t d = 0; d < 4; ++d) {
    STD_TORCH_CHECK(logsumexp.size(d) == query.size(d),
                    "neighborhood attention: logsumexp differs from query in dimension ", d);
  }
}

template <typename Real>
std::tuple<Tensor, Tensor> forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                   const std::optional<Tensor>& bias, int64_t kernel, int64_t dilation,
                                   double scale) {
  const auto& kernels = variant<Real>(query.scalar_type());
  const Columns columns(query.size(2), kernel, dilation, kernels.lanes);
  Problem problem = describe(query, key, value, columns, kernel, dilation, scale);
  const std::vector<int64_t> shape = {problem.batch, problem.height, problem.width, problem.heads,
                                      problem.head_dim};
  Tensor output = torch::stable::new_empty(query, shape);
  Tensor logsumexp = torch::stable::new_empty(query, {shape.data(), 4}, kComputed<Real>);
  problem.bias = bias ? bias->const_data_ptr() : nullptr;
  problem.output = output.mutable_data_ptr();
  problem.logsumexp = logsumexp.mutable_data_ptr();
  const long strips = problem.batch * problem.heads * dilation * problem.strip_count;
  const long threads = torch::stable::get_num_threads();
  problem.bands = threads == 1 ? 1 : bands_for(strips, threads * kForwardUnitsAThread, problem);
  run_units<Real>(strips * problem.bands, kernels.forward_scratch(problem),
                  [&](long unit, Real* scratch) { kernels.forward(problem, unit, scratch); });
  return {output, logsumexp};
}

// Adds the units' parts of the bias gradient, in their order, in double precision.
template <typename Real>
void add_bias_parts(const Problem& problem, const Real* parts, Real* grad_bias) {
  const long table = 2 * problem.kernel - 1, cells = table * table;
  const long units_a_head = problem.dilation * problem.bands;
  for (long head = 0; head < problem.heads; ++head) {
    std::vector<double> sum(cells, 0.0);
    for (long batch = 0; batch < problem.batch; ++batch) {
      const Real* part = parts + (batch * problem.heads + head) * units_a_head * cells;
      for (long i = 0; i < units_a_head * cells; ++i) sum[i % cells] += part[i];
    }
    for (long cell = 0; cell < cells; ++cell) grad_bias[head * cells + cell] = static_cast<Real>(sum[cell]);
  }
}

template <typename Real>
std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad_output, const Tensor& query,
                                                    const Tensor& key, const Tensor& value,
                                                    const std::optional<Tensor>& bias, const Tensor& output,
                                                    const Tensor& logsumexp, int64_t kernel,
                                                    int64_t dilation, double scale) {
  const auto& kernels = variant<Real>(query.scalar_type());
  const Columns columns(query.size(2), kernel, dilation, kernels.lanes);
  Problem problem = describe(query, key, value, columns, kernel, dilation, scale);
  const std::vector<int64_t> shape = {problem.batch, problem.height, problem.width, problem.heads,
                                      problem.head_dim};
  Tensor grad_query = torch::stable::new_empty(query, shape);
  Tensor grad_key = torch::stable::new_empty(query, shape);
  Tensor grad_value = torch::stable::new_empty(query, shape);
  const long table = 2 * kernel - 1;
  const std::vector<int64_t> bias_shape = {problem.heads, table, table};
  const std::vector<int64_t> no_shape = {0};
  Tensor grad_bias = torch::stable::new_empty(query, bias ? bias_shape : no_shape, kComputed<Real>);
  problem.bias = bias ? bias->const_data_ptr() : nullptr;
  problem.output = output.mutable_data_ptr();
  problem.logsumexp = logsumexp.mutable_data_ptr();
  problem.grad_output = tokens(grad_output);
  problem.grad_query = grad_query.mutable_data_ptr();
  problem.grad_key = grad_key.mutable_data_ptr();
  problem.grad_value = grad_value.mutable_data_ptr();
  const long strips = problem.batch * problem.heads * dilation;
  problem.bands = bands_for(strips, kBackwardUnits, problem);
  const long longest = segzoo::class_length(problem.height, 0, dilation);
  problem.unit_key_rows =
      std::min(longest, (longest + problem.bands - 1) / problem.bands + static_cast<long>(kernel) - 1);
  const long units = strips * problem.bands;
  const long width = (problem.head_dim + kernels.lanes - 1) / kernels.lanes * kernels.lanes;
  const long unit_size = problem.unit_key_rows * problem.width * width;
  const Memory<Real> key_parts(units * unit_size), value_parts(units * unit_size);
  const Memory<Real> bias_parts(bias ? units * table * table : 1);
  problem.unit_grad_key = key_parts.get();
  problem.unit_grad_value = value_parts.get();
  problem.unit_grad_bias = bias_parts.get();
  run_units<Real>(units, kernels.backward_scratch(problem),
                  [&](long unit, Real* scratch) { kernels.backward(problem, unit, scratch); });
  run_units<Real>(problem.batch * problem.height, 1,
                  [&](long row, Real*) { kernels.add_up(problem, row); });
  if (bias) add_bias_parts<Real>(problem, bias_parts.get(), static_cast<Real*>(grad_bias.mutable_data_ptr()));
  return {grad_query, grad_key, grad_value, grad_bias};
}

Tensor cast(const Tensor& tensor, ScalarType dtype) {
  return tensor.scalar_type() == dtype ? tensor : torch::stable::to(tensor, dtype);
}

std::optional<Tensor> ready_bias(const std::optional<Tensor>& bias, ScalarType dtype) {
  if (!bias) return std::nullopt;
  return torch::stable::contiguous(cast(*bias, dtype));
}

// What a tensor of a dtype is read as: float16 through a float32 copy, everything else in place.
ScalarType read_as(ScalarType dtype) {
  const bool known = dtype == ScalarType::Double || dtype == ScalarType::Float || dtype == ScalarType::BFloat16 ||
                     dtype == ScalarType::Half;
  STD_TORCH_CHECK(known, "neighborhood attention: float64, float32, bfloat16 and float16 only");
  return dtype == ScalarType::Half ? ScalarType::Float : dtype;
}

std::tuple<Tensor, Tensor> forward_any(const Tensor& query, const Tensor& key, const Tensor& value,
                                       const std::optional<Tensor>& bias, int64_t kernel, int64_t dilation,
                                       double scale) {
  check_all(query, key, value, bias, kernel, dilation);
  const ScalarType narrow = query.scalar_type(), stored = read_as(narrow);
  const Tensor q = cast(query, stored), k = cast(key, stored), v = cast(value, stored);
  auto [output, logsumexp] =
      stored == ScalarType::Double
          ? forward<double>(q, k, v, ready_bias(bias, ScalarType::Double), kernel, dilation, scale)
          : forward<float>(q, k, v, ready_bias(bias, ScalarType::Float), kernel, dilation, scale);
  return {cast(output, narrow), logsumexp};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> backward_any(const Tensor& grad_output, const Tensor& query,
                                                        const Tensor& key, const Tensor& value,
                                                        const std::optional<Tensor>& bias,
                                                        const Tensor& output, const Tensor& logsumexp,
                                                        int64_t kernel, int64_t dilation, double scale) {
  check_all(query, key, value, bias, kernel, dilation);
  check(grad_output, query, "grad_output");
  check(output, query, "output");
  check_logsumexp(logsumexp, query);
  const ScalarType narrow = query.scalar_type(), stored = read_as(narrow);
  const bool twice = stored == ScalarType::Double;
  const ScalarType computed = twice ? ScalarType::Double : ScalarType::Float;
  const Tensor q = cast(query, stored), k = cast(key, stored), v = cast(value, stored);
  const Tensor g = cast(grad_output, stored), o = torch::stable::contiguous(cast(output, stored));
  const Tensor l = torch::stable::contiguous(cast(logsumexp, computed));
  const auto b = ready_bias(bias, computed);
  auto [grad_query, grad_key, grad_value, grad_bias] =
      twice ? backward<double>(g, q, k, v, b, o, l, kernel, dilation, scale)
            : backward<float>(g, q, k, v, b, o, l, kernel, dilation, scale);
  return {cast(grad_query, narrow), cast(grad_key, narrow), cast(grad_value, narrow),
          bias ? cast(grad_bias, bias->scalar_type()) : grad_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(segzoo, CPU, library) {
  library.impl("neighborhood_attention_2d", TORCH_BOX(&forward_any));
  library.impl("neighborhood_attention_2d_backward", TORCH_BOX(&backward_any));
}

// What the loader reports: the name of the variant in use.
extern "C" __attribute__((visibility("default"))) const char* segzoo_neighborhood_attention_variant() {
  return variants().name;
}
