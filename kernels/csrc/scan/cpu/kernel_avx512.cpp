// x86-64 with AVX-512.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernel.h"

#ifdef MMQUAD_X86_LEVELS
// After the standard headers, whose functions the linker shares with other files.
#pragma GCC target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl")
#include <immintrin.h>

#include "float16.h"

#define MMQUAD_BYTES 64

namespace mmquad::avx512 {
#include "kernels.inc"
}  // namespace mmquad::avx512
#endif
