// The CUDA kernels of segzoo::segmentation_tail, registered through PyTorch's stable ABI. Nothing here waits for the
// device: sources outside their logits, which only a wait could report, are moved to the nearest logit.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "../shared/cuda_tensor.cuh"
#include "cuda_launches.cuh"

namespace {

using segzoo::CudaTail;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using torch::stable::accelerator::DeviceGuard;
using Tensors = std::vector<Tensor>;

// All that a call holds on to: the tensors that the problem points into.
class Call {
 public:
  Call(const Tensors& logits, const Tensors& row_sources, const Tensors& row_weights, const Tensors& column_sources,
       const Tensors& column_weights) {
    const size_t count = logits.size();
    STD_TORCH_CHECK(count > 0 && row_sources.size() == count && row_weights.size() == count &&
                        column_sources.size() == count && column_weights.size() == count,
                    "segmentation tail: every view needs logits, rows and columns");
    STD_TORCH_CHECK(count <= segzoo::kMostViews, "segmentation tail: ", count, " views; CUDA takes at most ",
                    segzoo::kMostViews);
    const auto is_half = [](const Tensor& view) { return view.scalar_type() == ScalarType::BFloat16; };
    half_ = std::all_of(logits.begin(), logits.end(), is_half);
    problem_.classes = narrow_int(logits[0].size(0));
    problem_.height = narrow_int(row_sources[0].size(0));
    problem_.width = narrow_int(column_sources[0].size(0));
    problem_.views = static_cast<int>(count);
    problem_.wide = problem_.classes > 256;
    for (size_t v = 0; v < count; ++v) {
      segzoo::CudaView& view = problem_.view[v];
      add_logits(logits[v], view);
      view.rows = taps(row_sources[v], row_weights[v], problem_.height);
      problem_.most_row_taps = std::max(problem_.most_row_taps, view.rows.taps);
      view.columns = taps(column_sources[v], column_weights[v], problem_.width);
    }
  }

  CudaTail& problem() { return problem_; }
  bool half() const { return half_; }
  const Tensor& kept(const Tensor& tensor) {
    STD_TORCH_CHECK(tensor.is_cuda() && (tensors_.empty() || tensor.get_device_index() == tensors_[0].get_device_index()),
                    "segmentation tail: all tensors must be on one device");
    tensors_.push_back(torch::stable::contiguous(tensor));
    return tensors_.back();
  }

 private:
  static int narrow_int(int64_t size) {
    STD_TORCH_CHECK(size <= std::numeric_limits<int>::max(), "segmentation tail: sizes must be below 2^31");
    return static_cast<int>(size);
  }

  void add_logits(const Tensor& logits, segzoo::CudaView& view) {
    STD_TORCH_CHECK(logits.dim() == 3 && logits.size(0) == problem_.classes && logits.size(0) > 0 &&
                        logits.size(1) > 0 && logits.size(2) > 0,
                    "segmentation tail: logits must be [C, h, w] with values in it, of one C");
    STD_TORCH_CHECK(logits.scalar_type() == ScalarType::Float || logits.scalar_type() == ScalarType::BFloat16,
                    "segmentation tail: logits must be float32 or bfloat16");
    const ScalarType type = half_ ? ScalarType::BFloat16 : ScalarType::Float;
    const Tensor& values = kept(logits.scalar_type() == type ? logits : torch::stable::to(logits, type));
    view.logits = values.const_data_ptr();
    view.class_stride = values.stride(0);
    view.row_stride = values.stride(1);
    view.height = narrow_int(values.size(1));
    view.width = narrow_int(values.size(2));
  }

  segzoo::CudaTaps taps(const Tensor& sources, const Tensor& weights, int64_t pixels) {
    STD_TORCH_CHECK(sources.dim() == 2 && weights.dim() == 2 && sources.size(0) == pixels &&
                        weights.size(0) == pixels && sources.size(1) == weights.size(1) && sources.size(1) > 0,
                    "segmentation tail: sources and weights must be [", pixels, ", taps]");
    STD_TORCH_CHECK(sources.scalar_type() == ScalarType::Int && weights.scalar_type() == ScalarType::Float,
                    "segmentation tail: sources must be int32, weights float32");
    return {static_cast<const int*>(kept(sources).const_data_ptr()),
            static_cast<const float*>(kept(weights).const_data_ptr()), narrow_int(sources.size(1))};
  }

  CudaTail problem_{};
  bool half_ = false;
  std::deque<Tensor> tensors_;
};

Tensor empty_counts(const Tensor& labels, const std::optional<Tensor>& target, int64_t classes) {
  const int64_t side = target ? classes + 1 : 0;
  const std::vector<int64_t> shape = {side, side};
  if (target) {
    STD_TORCH_CHECK(classes > 0, "segmentation tail: num_classes must be at least 1");
    STD_TORCH_CHECK(target->dim() == 2 && target->size(0) == labels.size(0) && target->size(1) == labels.size(1),
                    "segmentation tail: target must be [H, W] like the labels");
    STD_TORCH_CHECK(target->scalar_type() == ScalarType::Byte || target->scalar_type() == ScalarType::Long,
                    "segmentation tail: target must be uint8 or int64");
  }
  return torch::stable::new_zeros(labels, shape, ScalarType::Long);
}

std::tuple<Tensor, Tensor> tail(const Tensors logits, const Tensors row_sources, const Tensors row_weights,
                                const Tensors column_sources, const Tensors column_weights,
                                const std::optional<Tensor> target, int64_t num_classes, int64_t ignore) {
  STD_TORCH_CHECK(!logits.empty(), "segmentation tail: no views");
  const DeviceGuard guard(logits[0].get_device_index());
  Call call(logits, row_sources, row_weights, column_sources, column_weights);
  CudaTail& problem = call.problem();
  const std::vector<int64_t> shape = {problem.height, problem.width};
  Tensor labels = torch::stable::new_empty(logits[0], shape, problem.wide ? ScalarType::Int : ScalarType::Byte);
  Tensor counts = empty_counts(labels, target, num_classes);
  problem.labels = labels.mutable_data_ptr();
  if (target) {
    problem.target = call.kept(*target).const_data_ptr();
    problem.target_wide = target->scalar_type() == ScalarType::Long;
    problem.counted = num_classes;
    problem.ignore = ignore;
    problem.counts = static_cast<unsigned long long*>(counts.mutable_data_ptr());
  }
  const cudaStream_t stream = segzoo::stream_of(logits[0]);
  segzoo::require_launched("segmentation tail", call.half() ? segzoo::run_tail<__nv_bfloat16>(problem, stream)
                                                            : segzoo::run_tail<float>(problem, stream));
  return {labels, counts};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(segzoo, CUDA, library) {
  library.impl("segmentation_tail", TORCH_BOX(&tail));
}
