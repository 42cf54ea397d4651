// The CPU kernel of segzoo::png_rows, registered through PyTorch's stable ABI: undoes the row filters of a PNG with one
// byte a pixel (PNG specification, third edition, section 9).
//
// A label map is flat: most of its filtered bytes are zero, and eight of them at once are then a copy of the row above
// or of the pixel to the left, whichever the filter predicts from. Average and what is not flat go byte by byte.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

using torch::stable::Tensor;

constexpr long kWord = 8;

uint64_t word(const uint8_t* bytes) {
  uint64_t value;
  std::memcpy(&value, bytes, kWord);
  return value;
}

void none(const uint8_t* filtered, const uint8_t*, uint8_t* row, long width) { std::memcpy(row, filtered, width); }

void left(const uint8_t* filtered, const uint8_t*, uint8_t* row, long width) {
  uint8_t previous = 0;
  for (long i = 0; i < width;) {
    if (i + kWord <= width && word(filtered + i) == 0) {
      std::memset(row + i, previous, kWord);
      i += kWord;
      continue;
    }
    const long end = i + kWord <= width ? i + kWord : width;
    for (; i < end; ++i) row[i] = previous = static_cast<uint8_t>(filtered[i] + previous);
  }
}

void above(const uint8_t* filtered, const uint8_t* upper, uint8_t* row, long width) {
  for (long i = 0; i < width; ++i) row[i] = static_cast<uint8_t>(filtered[i] + upper[i]);
}

void average(const uint8_t* filtered, const uint8_t* upper, uint8_t* row, long width) {
  uint8_t previous = 0;
  for (long i = 0; i < width; ++i) {
    row[i] = previous = static_cast<uint8_t>(filtered[i] + ((previous + upper[i]) >> 1));
  }
}

// The neighbour nearest to left + upper - corner; the first of equals, in this order.
uint8_t paeth_neighbour(int left, int upper, int corner) {
  const int to_left = std::abs(upper - corner), to_upper = std::abs(left - corner);
  const int to_corner = std::abs(left + upper - 2 * corner);
  if (to_left <= to_upper && to_left <= to_corner) return static_cast<uint8_t>(left);
  return static_cast<uint8_t>(to_upper <= to_corner ? upper : corner);
}

void paeth(const uint8_t* filtered, const uint8_t* upper, uint8_t* row, long width) {
  uint8_t previous = 0, corner = 0;
  for (long i = 0; i < width;) {
    if (i + kWord <= width && word(filtered + i) == 0) {
      // Left equals its upper neighbour: the upper ones follow, one after the other.
      const bool from_above = previous == corner;
      // The row above does not change here: left is repeated.
      const bool from_left = !from_above && word(upper + i) == 0x0101010101010101u * corner;
      if (from_above || from_left) {
        if (from_above) {
          std::memcpy(row + i, upper + i, kWord);
        } else {
          std::memset(row + i, previous, kWord);
        }
        i += kWord;
        previous = row[i - 1], corner = upper[i - 1];
        continue;
      }
    }
    const long end = i + kWord <= width ? i + kWord : width;
    for (; i < end; ++i) {
      previous = static_cast<uint8_t>(filtered[i] + paeth_neighbour(previous, upper[i], corner));
      row[i] = previous, corner = upper[i];
    }
  }
}

Tensor png_rows(const Tensor& filtered, int64_t height, int64_t width) {
  STD_TORCH_CHECK(filtered.dim() == 1 && filtered.scalar_type() == torch::headeronly::ScalarType::Byte &&
                      filtered.is_contiguous(),
                  "png_rows: the filtered rows must be contiguous uint8 [height * (1 + width)]");
  STD_TORCH_CHECK(height > 0 && width > 0 && filtered.numel() / height == 1 + width &&
                      filtered.numel() % height == 0,
                  "png_rows: ", filtered.numel(), " bytes are not ", height, " rows of 1 + ", width);
  static constexpr decltype(&none) filters[] = {none, left, above, average, paeth};
  Tensor result = torch::stable::new_empty(filtered, {height, width});
  const uint8_t* from = static_cast<const uint8_t*>(filtered.const_data_ptr());
  uint8_t* row = static_cast<uint8_t*>(result.mutable_data_ptr());
  // Above the first row there are zeros.
  Tensor zeros = torch::stable::new_zeros(filtered, {width});
  const uint8_t* upper = static_cast<const uint8_t*>(zeros.const_data_ptr());
  for (int64_t i = 0; i < height; ++i, from += 1 + width, upper = row, row += width) {
    STD_TORCH_CHECK(*from <= 4, "png_rows: row ", i, " has filter ", static_cast<int>(*from), ", not 0 to 4");
    filters[*from](from + 1, upper, row, width);
  }
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(segzoo, CPU, library) { library.impl("png_rows", TORCH_BOX(&png_rows)); }
