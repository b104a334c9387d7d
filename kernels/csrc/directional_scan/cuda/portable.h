// The few device functions that differ between nvcc and the emulation on the host, which the tests
// use to run these very kernels without a GPU.
#pragma once

#include <cstdint>

#include "problem.h"

#ifdef __CUDACC__

#define MMQUAD_DEVICE __device__ __forceinline__
#define MMQUAD_SHARED(name) extern __shared__ __align__(16) float name[]
#define MMQUAD_LAUNCH(kernel, blocks, threads, bytes, stream, ...) \
  kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), bytes, stream>>>(__VA_ARGS__)

namespace mmquad::cuda {

// One instruction, relative error 2^-22; denormal results are flushed to 0.
MMQUAD_DEVICE float exp2_fast(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

MMQUAD_DEVICE float widen_half(uint16_t bits) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(bits));
  return result;
}

MMQUAD_DEVICE float widen_bfloat16(uint16_t bits) {
  return __uint_as_float(static_cast<uint32_t>(bits) << 16);
}

}  // namespace mmquad::cuda

#else
#include "host_emulation.h"
#endif
