// What the lanes of a warp do together: shuffles, votes, matrix products, ldmatrix. And cp.async, whose copies are
// made only when they are waited for.
//
// Register layouts follow the PTX ISA, "Matrix Fragments for mma.m16n8k16" and "ldmatrix": lane = 4 * group + quad;
// A holds rows group and group + 8, B column group, C and D rows group and group + 8 with columns 2 * quad and + 1.
// Products are exact and summed in double before they are rounded to float; the order in which hardware sums is not
// published, so last digits may differ.
#pragma once

#include "block.h"
#include "numbers.h"

namespace segzoo_emulator {

template <typename Value, typename Source>
Value shuffle(unsigned mask, Value value, int width, Place place, Source source) {
  struct Given {
    Value value;
    int source;
  };
  const int own = lane(), first = own / width * width;
  int from = source(own - first);
  from = from < 0 || from >= width ? own : first + from;
  return collective<Value>(mask, Given{value, from}, place, [](const Given* ins, Value* outs) {
    for (int i = 0; i < 32; ++i) outs[i] = ins[ins[i].source].value;
  });
}

inline unsigned ballot(unsigned mask, bool predicate, Place place) {
  return collective<unsigned>(mask, predicate, place, [](const bool* ins, unsigned* outs) {
    unsigned bits = 0;
    for (int i = 0; i < 32; ++i) bits |= unsigned{ins[i]} << i;
    for (int i = 0; i < 32; ++i) outs[i] = bits;
  });
}

inline void warp_barrier(unsigned mask, Place place) {
  collective<char>(mask, char{0}, place, [](const char*, char*) {});
}

struct MatrixOperands {
  unsigned a[4], b[2];
  float c[4];
};
struct MatrixResult {
  float d[4];
};

// Number `column` of the pair of halves in a register.
template <typename Half>
float half_of(unsigned pair, int column) {
  const uint16_t bits = static_cast<uint16_t>(pair >> (16 * column));
  Half value;
  std::memcpy(&value, &bits, 2);
  return to_float(value);
}

// mma.sync.aligned.m16n8k16.row.col.f32.Half.Half.f32
template <typename Half>
void multiply_matrices(const MatrixOperands* ins, MatrixResult* outs) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, quad = lane % 4;
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i) {
        a[group + 8 * (i % 2)][2 * quad + half + 8 * (i / 2)] = half_of<Half>(ins[lane].a[i], half);
      }
      for (int i = 0; i < 2; ++i) b[2 * quad + half + 8 * i][group] = half_of<Half>(ins[lane].b[i], half);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      double sum = ins[lane].c[i];
      for (int k = 0; k < 16; ++k) sum += double{a[row][k]} * b[k][column];
      outs[lane].d[i] = static_cast<float>(sum);
    }
  }
}

template <typename Half>
MatrixResult matrix_product(const MatrixOperands& operands, Place place) {
  return collective<MatrixResult>(0xffffffffu, operands, place, multiply_matrices<Half>);
}

struct MatrixRegisters {
  unsigned r[4];
};

// ldmatrix.sync.aligned.m8n8.x4(.trans).shared.b16: lane i gives the address of row i % 8 of matrix i / 8.
inline MatrixRegisters load_matrices(const void* row, bool transposed, Place place) {
  if (reinterpret_cast<uintptr_t>(row) % 16) fail("ldmatrix from an address that is no multiple of 16: " + place.text());
  struct Row {
    uint16_t values[8];
  };
  Row own;
  std::memcpy(&own, row, sizeof(own));
  return collective<MatrixRegisters>(
      0xffffffffu, own, place, [transposed](const Row* rows, MatrixRegisters* outs) {
        for (int lane = 0; lane < 32; ++lane) {
          for (int matrix = 0; matrix < 4; ++matrix) {
            const int group = lane / 4, quad = lane % 4;
            uint16_t pair[2];
            for (int i = 0; i < 2; ++i) {
              pair[i] = transposed ? rows[8 * matrix + 2 * quad + i].values[group]
                                   : rows[8 * matrix + group].values[2 * quad + i];
            }
            outs[lane].r[matrix] = pair[0] | unsigned{pair[1]} << 16;
          }
        }
      });
}

inline void promise_copy(void* target, const void* source, size_t bytes, size_t zeros, Place place) {
  const auto misplaced = [&](const void* p) { return reinterpret_cast<uintptr_t>(p) % (bytes + zeros) != 0; };
  if (misplaced(target) || (bytes && misplaced(source))) fail("misaligned cp.async: " + place.text());
  block.current->copies.back().push_back({target, source, bytes, zeros});
}

inline void commit_copies() { block.current->copies.emplace_back(); }

// Makes the copies of all groups but the latest `pending` that were committed.
inline void wait_for_copies(size_t pending) {
  auto& groups = block.current->copies;
  while (groups.size() > pending + 1) {
    for (const Copy& copy : groups.front()) {
      if (copy.bytes) std::memcpy(copy.target, copy.source, copy.bytes);
      std::memset(static_cast<char*>(copy.target) + copy.bytes, 0, copy.zeros);
    }
    groups.erase(groups.begin());
  }
}

}  // namespace segzoo_emulator

#define SEGZOO_HERE (segzoo_emulator::Place{__FILE__, __LINE__})
#define __syncthreads() segzoo_emulator::block_barrier(SEGZOO_HERE)
#define __syncwarp(...) segzoo_emulator::warp_barrier(0xffffffffu, SEGZOO_HERE)
#define __ballot_sync(mask, predicate) segzoo_emulator::ballot(mask, predicate, SEGZOO_HERE)
#define __any_sync(mask, predicate) (segzoo_emulator::ballot(mask, predicate, SEGZOO_HERE) != 0u)
#define __all_sync(mask, predicate) (segzoo_emulator::ballot(mask, predicate, SEGZOO_HERE) == 0xffffffffu)
// The width may be left out, as in CUDA.
#define SEGZOO_WIDTH(...) (segzoo_emulator::width_or_warp(__VA_ARGS__))
#define __shfl_sync(mask, value, source, ...) \
  segzoo_emulator::shuffle(mask, value, SEGZOO_WIDTH(__VA_ARGS__), SEGZOO_HERE, [&](int) { return int(source); })
#define __shfl_xor_sync(mask, value, bits, ...)                                \
  segzoo_emulator::shuffle(mask, value, SEGZOO_WIDTH(__VA_ARGS__), SEGZOO_HERE, \
                           [&](int own) { return own ^ int(bits); })
#define __shfl_down_sync(mask, value, step, ...)                               \
  segzoo_emulator::shuffle(mask, value, SEGZOO_WIDTH(__VA_ARGS__), SEGZOO_HERE, \
                           [&](int own) { return own + int(step); })
#define __shfl_up_sync(mask, value, step, ...)                                 \
  segzoo_emulator::shuffle(mask, value, SEGZOO_WIDTH(__VA_ARGS__), SEGZOO_HERE, \
                           [&](int own) { return own - int(step); })

namespace segzoo_emulator {
inline int width_or_warp() { return 32; }
inline int width_or_warp(int width) { return width; }
}  // namespace segzoo_emulator
