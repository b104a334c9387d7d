// x86-64 with AVX2 and FMA.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernel.h"

#ifdef MMQUAD_X86_LEVELS
// After the standard headers, whose functions the linker shares with other files.
#pragma GCC target("avx2,fma")
#include <immintrin.h>

#include "float16.h"

#define MMQUAD_BYTES 32

namespace mmquad::avx2 {
#include "kernels.inc"
}  // namespace mmquad::avx2
#endif
