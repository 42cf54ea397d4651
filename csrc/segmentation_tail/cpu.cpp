// The CPU kernel of segzoo::segmentation_tail, registered through PyTorch's stable ABI.
//
// Here: reading tensors, choosing the processor variant, threads. The cutting into pieces is in plan.h, the
// arithmetic in cpu_variant.cpp, the counting in confusion.h.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <deque>
#include <optional>
#include <tuple>
#include <vector>

#include "../shared/processor.h"
#include "../shared/threads.h"
#include "confusion.h"
#include "plan.h"
#include "problem.h"

namespace {

using segzoo::Problem;
using segzoo::Side;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr float kLog2E = 1.44269504088896341f;

const segzoo::Variant& variant() {
  static const segzoo::Variant& chosen = segzoo::on_this_processor(
      [](auto best) -> const segzoo::Variant& { return segzoo::variant(best); });
  return chosen;
}

// Shapes are checked here too: the operator can be called past its Python function.
Side side_of(const Tensor& sources, const Tensor& weights, long pixels, long length) {
  STD_TORCH_CHECK(sources.dim() == 2 && weights.dim() == 2 && sources.size(0) == pixels && weights.size(0) == pixels &&
                      sources.size(1) == weights.size(1) && sources.size(1) > 0,
                  "segmentation tail: sources and weights must be [", pixels, ", taps]");
  STD_TORCH_CHECK(sources.scalar_type() == ScalarType::Int && weights.scalar_type() == ScalarType::Float,
                  "segmentation tail: sources must be int32, weights float32");
  const Side side = {static_cast<const int*>(sources.const_data_ptr()),
                     static_cast<const float*>(weights.const_data_ptr()), pixels, sources.size(1), length};
  for (long tap = 0; tap < pixels * side.taps; ++tap) {
    STD_TORCH_CHECK(side.source[tap] >= 0 && side.source[tap] < length, "segmentation tail: source ", side.source[tap],
                    " is outside 0..", length - 1);
  }
  return side;
}

// The logits with rows that a whole vector can be read from, in the types that the kernel reads.
Tensor readable(const Tensor& logits, long lanes) {
  STD_TORCH_CHECK(logits.dim() == 3 && logits.size(0) > 0 && logits.size(1) > 0 && logits.size(2) > 0,
                  "segmentation tail: logits must be [C, h, w] with values in it");
  STD_TORCH_CHECK(logits.scalar_type() == ScalarType::Float || logits.scalar_type() == ScalarType::BFloat16,
                  "segmentation tail: logits must be float32 or bfloat16");
  const Tensor dense = logits.stride(2) == 1 ? logits : torch::stable::contiguous(logits);
  const long width = dense.size(2);
  if (width >= lanes) return dense;
  const std::vector<int64_t> shape = {dense.size(0), dense.size(1), lanes};
  Tensor padded = torch::stable::new_zeros(dense, shape);
  Tensor inner = torch::stable::narrow(padded, 2, 0, width);
  torch::stable::copy_(inner, dense);
  return padded;
}

// All that a call holds on to: the plans that the problem points to.
class Call {
 public:
  Call(const std::vector<Tensor>& logits, const std::vector<Tensor>& row_sources,
       const std::vector<Tensor>& row_weights, const std::vector<Tensor>& column_sources,
       const std::vector<Tensor>& column_weights) {
    const size_t count = logits.size();
    STD_TORCH_CHECK(count > 0 && row_sources.size() == count && row_weights.size() == count &&
                        column_sources.size() == count && column_weights.size() == count,
                    "segmentation tail: every view needs logits, rows and columns");
    problem_.classes = logits[0].size(0);
    problem_.height = row_sources[0].size(0);
    problem_.width = column_sources[0].size(0);
    problem_.strips = (problem_.width + variant().lanes - 1) / variant().lanes;
    problem_.view_count = static_cast<long>(count);
    for (size_t v = 0; v < count; ++v) {
      add(logits[v], {kept(row_sources[v]), kept(row_weights[v])}, {kept(column_sources[v]), kept(column_weights[v])});
    }
    problem_.views = views_.data();
    problem_.groups = groups_.data();
  }

  Problem& problem() { return problem_; }
  const std::vector<segzoo::Group>& groups() const { return groups_; }

 private:
  struct Taps {
    const Tensor &sources, &weights;
  };

  const Tensor& kept(const Tensor& tensor) {
    tensors_.push_back(torch::stable::contiguous(tensor));
    return tensors_.back();
  }

  void add(const Tensor& logits, const Taps& rows, const Taps& columns) {
    const long lanes = variant().lanes;
    tensors_.push_back(readable(logits, lanes));
    const Tensor& values = tensors_.back();
    STD_TORCH_CHECK(values.size(0) == problem_.classes, "segmentation tail: views differ in classes");
    const Side down = side_of(rows.sources, rows.weights, problem_.height, logits.size(1));
    Side across = side_of(columns.sources, columns.weights, problem_.width, logits.size(2));
    across.length = values.size(2);
    const bool one = problem_.view_count == 1;
    if (groups_.empty()) groups_ = one ? segzoo::groups_of_one(down) : segzoo::groups_of_several(problem_.height);
    rows_.emplace_back(down, groups_, one ? segzoo::kGroupRows : segzoo::kAveragedRows);
    columns_.emplace_back(across, lanes, one ? 1.0f : kLog2E);
    views_.push_back({values.const_data_ptr(), values.scalar_type() == ScalarType::BFloat16, values.stride(0),
                      values.stride(1), columns_.back().terms(), rows_.back().sources()});
  }

  Problem problem_{};
  std::deque<Tensor> tensors_;
  std::deque<segzoo::RowPlan> rows_;
  std::deque<segzoo::ColumnPlan> columns_;
  std::vector<segzoo::View> views_;
  std::vector<segzoo::Group> groups_;
};

template <typename Label>
void count(const Tensor& labels, const Tensor& target, long classes, int64_t ignore, int64_t* counts) {
  const Tensor dense = torch::stable::contiguous(target);
  const auto* found = static_cast<const Label*>(labels.const_data_ptr());
  const void* truth = dense.const_data_ptr();
  if (target.scalar_type() == ScalarType::Byte) {
    segzoo::count_in_threads(found, static_cast<const uint8_t*>(truth), labels.numel(), classes, ignore, counts);
  } else {
    segzoo::count_in_threads(found, static_cast<const int64_t*>(truth), labels.numel(), classes, ignore, counts);
  }
}

Tensor confusion(const Tensor& labels, const std::optional<Tensor>& target, int64_t classes, int64_t ignore) {
  const int64_t side = target ? classes + 1 : 0;
  const std::vector<int64_t> shape = {side, side};
  Tensor counts = torch::stable::new_zeros(labels, shape, ScalarType::Long);
  if (!target) return counts;
  STD_TORCH_CHECK(classes > 0, "segmentation tail: num_classes must be at least 1");
  STD_TORCH_CHECK(target->dim() == 2 && target->size(0) == labels.size(0) && target->size(1) == labels.size(1),
                  "segmentation tail: target must be [H, W] like the labels");
  STD_TORCH_CHECK(target->scalar_type() == ScalarType::Byte || target->scalar_type() == ScalarType::Long,
                  "segmentation tail: target must be uint8 or int64");
  auto* cells = static_cast<int64_t*>(counts.mutable_data_ptr());
  if (labels.scalar_type() == ScalarType::Byte) count<uint8_t>(labels, *target, classes, ignore, cells);
  else count<int>(labels, *target, classes, ignore, cells);
  return counts;
}

std::tuple<Tensor, Tensor> tail(const std::vector<Tensor> logits, const std::vector<Tensor> row_sources,
                                const std::vector<Tensor> row_weights, const std::vector<Tensor> column_sources,
                                const std::vector<Tensor> column_weights, const std::optional<Tensor> target,
                                int64_t num_classes, int64_t ignore) {
  Call call(logits, row_sources, row_weights, column_sources, column_weights);
  Problem& problem = call.problem();
  problem.wide = problem.classes > 256;
  const std::vector<int64_t> shape = {problem.height, problem.width};
  Tensor labels = torch::stable::new_empty(logits[0], shape, problem.wide ? ScalarType::Int : ScalarType::Byte);
  problem.labels = labels.mutable_data_ptr();
  if (labels.numel() > 0) {
    const auto parts = segzoo::parts(call.groups(), problem.height, problem.strips, torch::stable::get_num_threads());
    segzoo::run_units<float>(static_cast<long>(parts.size()), variant().scratch(problem), [&](long unit, float* scratch) {
      variant().label(problem, parts[unit], scratch);
    });
  }
  return {labels, confusion(labels, target, num_classes, ignore)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(segzoo, CPU, library) {
  library.impl("segmentation_tail", TORCH_BOX(&tail));
}

// What the loader reports: the name of the variant in use.
extern "C" __attribute__((visibility("default"))) const char* segzoo_segmentation_tail_variant() {
  return variant().name;
}
