// What device code includes first: CUDA's headers under nvcc, or, in tests, an emulator with the same words
// (tests/kernels/cuda_emulator), so that the kernels run without a GPU.
#pragma once

#if defined(SEGZOO_CUDA_EMULATED)
#include <cuda_emulator.h>
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif

// A pointer to the dynamic shared memory of the block, aligned to 128 bytes.
#if defined(SEGZOO_CUDA_EMULATED)
#define SEGZOO_DYNAMIC_SHARED(name) unsigned char* name = segzoo_emulator::block.shared
#else
#define SEGZOO_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#endif
