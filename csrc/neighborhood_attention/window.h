// Window arithmetic of one axis, for every device. The two axes of a map are independent.
//
// A position belongs to the residue class (position mod dilation) and has a rank in it
// (position / dilation). A query of rank i attends to `kernel` consecutive ranks of its own class,
// centred on it, shifted inwards at a border and never shortened (arXiv 2204.07143, 2209.15001).
#pragma once

#if defined(__CUDACC__)
#define SEGZOO_INLINE __host__ __device__ static inline
#else
#define SEGZOO_INLINE static inline
#endif

// `static`, so that objects compiled for unlike processors never share one copy of a function.
namespace segzoo {

// Number of positions below `length` in residue class `residue`.
SEGZOO_INLINE long class_length(long length, long residue, long dilation) {
  return (length - residue + dilation - 1) / dilation;
}

// First rank that the query of rank `rank` attends to, in a class of `count` positions.
SEGZOO_INLINE long window_start(long rank, long count, long kernel) {
  const long centred = rank - kernel / 2;
  const long last = count - kernel;
  return centred < 0 ? 0 : (centred > last ? last : centred);
}

// Index on one axis of the bias table [2 * kernel - 1] for a query and a key rank.
SEGZOO_INLINE long bias_index(long query_rank, long key_rank, long kernel) {
  return key_rank - query_rank + kernel - 1;
}

// The queries that attend to the key of rank `rank` are [inverse_begin, inverse_end). Near a border
// they are up to kernel + kernel / 2, more than the kernel.
SEGZOO_INLINE long inverse_begin(long rank, long kernel) {
  return rank < kernel ? 0 : rank - kernel / 2;
}

SEGZOO_INLINE long inverse_end(long rank, long count, long kernel) {
  return rank >= count - kernel ? count : rank + kernel / 2 + 1;
}

}  // namespace segzoo
