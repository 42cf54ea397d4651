// The operator's checks of tensors, for when it is called past the Python function, which has them too.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <optional>

namespace segzoo {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline void check_like_query(const Tensor& tensor, const Tensor& query, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 5, "neighborhood attention: ", name, " must have 5 dimensions, not ", tensor.dim());
  for (int64_t d = 0; d < 5; ++d) {
    STD_TORCH_CHECK(tensor.size(d) == query.size(d), "neighborhood attention: ", name, " has size ", tensor.size(d),
                    " in dimension ", d, ", query ", query.size(d));
  }
  STD_TORCH_CHECK(tensor.scalar_type() == query.scalar_type(), "neighborhood attention: ", name,
                  " differs from query in dtype");
}

inline void check_inputs(const Tensor& query, const Tensor& key, const Tensor& value, const std::optional<Tensor>& bias,
                         int64_t kernel, int64_t dilation) {
  check_like_query(query, query, "query");
  check_like_query(key, query, "key");
  check_like_query(value, query, "value");
  STD_TORCH_CHECK(kernel >= 3 && kernel % 2 == 1 && dilation >= 1,
                  "neighborhood attention: kernel_size must be odd and at least 3, not ", kernel,
                  "; dilation at least 1, not ", dilation);
  STD_TORCH_CHECK(std::min(query.size(1), query.size(2)) / dilation >= kernel, "neighborhood attention: a map of ",
                  query.size(1), "x", query.size(2), " is smaller than kernel_size * dilation = ", kernel, " * ",
                  dilation);
  if (!bias) return;
  const int64_t table = 2 * kernel - 1;
  STD_TORCH_CHECK(bias->dim() == 3 && bias->size(0) == query.size(3) && bias->size(1) == table && bias->size(2) == table,
                  "neighborhood attention: bias must be [heads, 2 * kernel_size - 1, 2 * kernel_size - 1]");
}

// [batch, height, width, heads] in the type of sums, as the forward returns it.
inline void check_logsumexp(const Tensor& logsumexp, const Tensor& query, ScalarType sums) {
  bool fits = logsumexp.dim() == 4 && logsumexp.scalar_type() == sums;
  for (int64_t d = 0; fits && d < 4; ++d) fits = logsumexp.size(d) == query.size(d);
  STD_TORCH_CHECK(fits, "neighborhood attention: logsumexp is not what the forward returned for this query");
}

}  // namespace segzoo
