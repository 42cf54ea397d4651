// The checks of tensors that the CPU and the CUDA operator share. They stand here too, beside those of the Python
// function, because the operator can be called past it.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <vector>

namespace segzoo {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Flat pairs of height and width; returns the tokens of all levels.
inline int64_t count_tokens(const std::vector<int64_t>& shapes) {
  STD_TORCH_CHECK(!shapes.empty() && shapes.size() % 2 == 0,
                  "deformable attention: spatial_shapes must be pairs of height and width");
  int64_t tokens = 0;
  for (size_t i = 0; i < shapes.size(); i += 2) {
    STD_TORCH_CHECK(shapes[i] > 0 && shapes[i + 1] > 0, "deformable attention: a level without tokens");
    tokens += shapes[i] * shapes[i + 1];
  }
  STD_TORCH_CHECK(tokens <= INT32_MAX, "deformable attention: more than 2^31 - 1 tokens");
  return tokens;
}

// float64 goes with float64; float32, bfloat16 and float16 values with locations and weights in float32.
inline ScalarType computing_type(const Tensor& value) {
  return value.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline void check_inputs(const Tensor& value, const std::vector<int64_t>& shapes, const Tensor& locations,
                         const Tensor& weights) {
  STD_TORCH_CHECK(value.dim() == 4 && locations.dim() == 6 && weights.dim() == 5,
                  "deformable attention: value, locations and weights must have 4, 6 and 5 dimensions");
  const int64_t tokens = count_tokens(shapes), levels = static_cast<int64_t>(shapes.size()) / 2;
  STD_TORCH_CHECK(value.size(1) == tokens, "deformable attention: value has ", value.size(1), " tokens, the levels ",
                  tokens);
  STD_TORCH_CHECK(locations.size(0) == value.size(0) && locations.size(2) == value.size(2) &&
                      locations.size(3) == levels && locations.size(5) == 2,
                  "deformable attention: locations do not fit value and levels");
  for (int64_t d = 0; d < 5; ++d) {
    STD_TORCH_CHECK(weights.size(d) == locations.size(d),
                    "deformable attention: weights differ from locations in dimension ", d);
  }
  const ScalarType dtype = value.scalar_type(), wide = computing_type(value);
  STD_TORCH_CHECK(dtype == wide || dtype == ScalarType::BFloat16 || dtype == ScalarType::Half,
                  "deformable attention: value must be float64, float32, bfloat16 or float16");
  STD_TORCH_CHECK(locations.scalar_type() == wide && weights.scalar_type() == wide,
                  "deformable attention: locations and weights must be float32, or float64 where value is");
}

inline void check_grad_output(const Tensor& grad_output, const Tensor& value, const Tensor& locations) {
  STD_TORCH_CHECK(grad_output.dim() == 3 && grad_output.size(0) == value.size(0) &&
                      grad_output.size(1) == locations.size(1) &&
                      grad_output.size(2) == value.size(2) * value.size(3) &&
                      grad_output.scalar_type() == value.scalar_type(),
                  "deformable attention: grad_output is not like the output");
}

}  // namespace segzoo
