// The CPU kernels of segzoo::training_crop, label_crop and normalised_crops, registered through PyTorch's stable ABI.
//
// Here: reading tensors, places and weights of the resize, labels. The arithmetic of colours is in cpu_variant.cpp. Crops
// are cut on one thread: a reading process has no other. Normalising is the training process's own work.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>
#include <vector>

#include "../shared/processor.h"
#include "../shared/threads.h"
#include "problem.h"

namespace {

// Fewer are not worth waking a thread for.
constexpr int64_t kRowsOfAThread = 64;

using segzoo::Blend;
using torch::stable::Tensor;

const segzoo::Variant& variant() {
  static const segzoo::Variant& chosen = segzoo::on_this_processor(
      [](auto best) -> const segzoo::Variant& { return segzoo::variant(best); });
  return chosen;
}

int16_t weight(float share) { return static_cast<int16_t>(std::nearbyint(share * 2048.0f)); }

// Where the places [begin, end) of `resized` come from, of `length`. OpenCV lets a row beyond the edge keep its two
// weights, but gives a column beyond it one.
std::vector<Blend> blends(long length, long resized, long begin, long end, bool columns) {
  std::vector<Blend> result;
  const double scale = 1.0 / (static_cast<double>(resized) / static_cast<double>(length));
  for (long place = begin; place < end; ++place) {
    float share = static_cast<float>((static_cast<double>(place) + 0.5) * scale - 0.5);
    long first = static_cast<long>(std::floor(share));
    share -= static_cast<float>(first);
    if (columns && first < 0) first = 0, share = 0.0f;
    if (columns && first >= length - 1) first = length - 1, share = 0.0f;
    const auto inside = [&](long i) { return static_cast<int32_t>(std::min(std::max(i, 0L), length - 1)); };
    result.push_back({inside(first), inside(first + 1), weight(1.0f - share), weight(share)});
  }
  return result;
}

// Colours as Python gives them: factor and shift of two steps before, of the saturation and of a step after, and the
// turn of the hue. A step that is left out is not a number.
segzoo::Colours colours_of(const std::vector<double>& steps) {
  const auto affine = [&](int at) {
    return segzoo::Affine{!std::isnan(steps[at]), static_cast<float>(steps[at]), static_cast<float>(steps[at + 1])};
  };
  const bool turned = !std::isnan(steps[8]);
  return {{affine(0), affine(2)}, affine(4), turned, turned ? static_cast<int32_t>(steps[8]) : 0, affine(6)};
}

// `picture` has its height and width first.
void check_box(const Tensor& picture, const std::vector<int64_t>& size, const std::vector<int64_t>& box) {
  STD_TORCH_CHECK(size.size() == 2 && box.size() == 4, "training crops: size has 2 and box 4 numbers");
  STD_TORCH_CHECK(picture.size(0) > 0 && picture.size(1) > 0 && box[0] >= 0 && box[0] < box[1] && box[1] <= size[0] &&
                      box[2] >= 0 && box[2] < box[3] && box[3] <= size[1],
                  "training crops: the box is not inside the resized picture");
}

Tensor training_crop(const Tensor& picture, const std::vector<int64_t> size, const std::vector<int64_t> box,
                     bool mirrored, const std::vector<double> steps) {
  STD_TORCH_CHECK(picture.dim() == 3 && picture.size(2) == 3 &&
                      picture.scalar_type() == torch::headeronly::ScalarType::Byte,
                  "training_crop: the picture must be uint8 [height, width, 3]");
  check_box(picture, size, box);
  STD_TORCH_CHECK(steps.size() == 9, "training_crop: colours are 9 numbers");
  STD_TORCH_CHECK(std::isnan(steps[8]) || (steps[8] >= 0 && steps[8] < 180), "training_crop: the hue turns by 0..179");
  const Tensor whole = torch::stable::contiguous(picture);
  segzoo::Problem problem{};
  problem.picture = static_cast<const uint8_t*>(whole.const_data_ptr());
  problem.width = whole.size(1);
  problem.rows = box[1] - box[0];
  problem.columns = box[3] - box[2];
  problem.mirrored = mirrored;
  problem.colours = colours_of(steps);
  const std::vector<Blend> rows = blends(whole.size(0), size[0], box[0], box[1], false);
  const std::vector<Blend> columns = blends(whole.size(1), size[1], box[2], box[3], true);
  problem.row_blends = rows.data();
  problem.column_blends = columns.data();
  Tensor result = torch::stable::new_empty(whole, {problem.rows, problem.columns, 3});
  problem.crop = static_cast<uint8_t*>(result.mutable_data_ptr());
  const segzoo::Memory<uint8_t> scratch(segzoo::scratch_bytes(problem.columns));
  variant().crop(problem, scratch.get());
  return result;
}

// Where the places [begin, end) of a side resized to its nearest neighbours come from, by OpenCV's rule.
std::vector<int32_t> nearest(long length, long resized, long begin, long end) {
  std::vector<int32_t> result;
  const double scale = 1.0 / (static_cast<double>(resized) / static_cast<double>(length));
  for (long place = begin; place < end; ++place) {
    const long source = static_cast<long>(std::floor(static_cast<double>(place) * scale));
    result.push_back(static_cast<int32_t>(std::min(source, length - 1)));
  }
  return result;
}

// Adds how often each value comes in a row, `times` over. Labels are flat: eight pixels are mostly of one value.
void count(const uint8_t* row, long columns, int64_t times, int64_t* counts) {
  long column = 0;
  for (; column + 8 <= columns; column += 8) {
    uint64_t word;
    std::memcpy(&word, row + column, 8);
    const uint64_t first = word & 255;
    if (word == first * 0x0101010101010101u) {
      counts[first] += 8 * times;
    } else {
      for (int i = 0; i < 8; ++i, word >>= 8) counts[word & 255] += times;
    }
  }
  for (; column < columns; ++column) counts[row[column]] += times;
}

std::tuple<Tensor, Tensor> label_crop(const Tensor& label, const std::vector<int64_t> size,
                                      const std::vector<int64_t> box) {
  STD_TORCH_CHECK(label.dim() == 2 && label.scalar_type() == torch::headeronly::ScalarType::Byte,
                  "label_crop: the label must be uint8 [height, width]");
  check_box(label, size, box);
  const Tensor whole = torch::stable::contiguous(label);
  const std::vector<int32_t> rows = nearest(whole.size(0), size[0], box[0], box[1]);
  const std::vector<int32_t> columns = nearest(whole.size(1), size[1], box[2], box[3]);
  Tensor crop = torch::stable::new_empty(whole, {box[1] - box[0], box[3] - box[2]});
  Tensor counts = torch::stable::new_zeros(whole, {256}, torch::headeronly::ScalarType::Long);
  const uint8_t* source = static_cast<const uint8_t*>(whole.const_data_ptr());
  uint8_t* target = static_cast<uint8_t*>(crop.mutable_data_ptr());
  const long width = static_cast<long>(columns.size()), height = static_cast<long>(rows.size());
  for (long row = 0; row < height;) {
    const uint8_t* from = source + rows[row] * whole.size(1);
    uint8_t* first = target + row * width;
    for (long column = 0; column < width; ++column) first[column] = from[columns[column]];
    long next = row + 1;
    for (; next < height && rows[next] == rows[row]; ++next) std::memcpy(target + next * width, first, width);
    count(first, width, next - row, static_cast<int64_t*>(counts.mutable_data_ptr()));
    row = next;
  }
  return {crop, counts};
}

Tensor normalised_crops(const Tensor& crops, const Tensor& extents, const std::vector<double> mean,
                        const std::vector<double> std, bool channels_last) {
  STD_TORCH_CHECK(crops.dim() == 4 && crops.size(3) == 3 &&
                      crops.scalar_type() == torch::headeronly::ScalarType::Byte && crops.is_contiguous(),
                  "normalised_crops: the crops must be contiguous uint8 [samples, height, width, 3]");
  STD_TORCH_CHECK(extents.dim() == 2 && extents.size(0) == crops.size(0) && extents.size(1) == 2 &&
                      extents.scalar_type() == torch::headeronly::ScalarType::Long && extents.is_contiguous(),
                  "normalised_crops: the extents must be contiguous int64 [samples, 2]");
  STD_TORCH_CHECK(mean.size() == 3 && std.size() == 3, "normalised_crops: mean and std have 3 numbers each");
  const long samples = crops.size(0);
  segzoo::Normalisation by{};
  by.height = crops.size(1), by.width = crops.size(2), by.channels_last = channels_last;
  by.crops = static_cast<const uint8_t*>(crops.const_data_ptr());
  by.extents = static_cast<const int64_t*>(extents.const_data_ptr());
  for (int channel = 0; channel < 3; ++channel) {
    by.mean[channel] = static_cast<float>(mean[channel]), by.scale[channel] = static_cast<float>(1.0 / std[channel]);
  }
  for (long sample = 0; sample < samples; ++sample) {
    STD_TORCH_CHECK(by.extents[2 * sample] >= 0 && by.extents[2 * sample] <= by.height &&
                        by.extents[2 * sample + 1] >= 0 && by.extents[2 * sample + 1] <= by.width,
                    "normalised_crops: sample ", sample, " is larger than the crops");
  }
  const std::vector<int64_t> planes{samples, 3, by.height, by.width}, pixels{samples, by.height, by.width, 3};
  Tensor result =
      torch::stable::new_empty(crops, channels_last ? pixels : planes, torch::headeronly::ScalarType::Float);
  by.result = static_cast<float*>(result.mutable_data_ptr());
  torch::stable::parallel_for(0, samples * by.height, kRowsOfAThread, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) variant().normalise_row(by, row / by.height, row % by.height);
  });
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(segzoo, CPU, library) {
  library.impl("training_crop", TORCH_BOX(&training_crop));
  library.impl("label_crop", TORCH_BOX(&label_crop));
  library.impl("normalised_crops", TORCH_BOX(&normalised_crops));
}

// What the loader reports: the name of the variant in use.
extern "C" __attribute__((visibility("default"))) const char* segzoo_training_crop_variant() {
  return variant().name;
}
