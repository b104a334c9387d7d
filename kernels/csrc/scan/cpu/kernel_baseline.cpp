// Every 64-bit processor of its kind, and every compiler.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernel.h"
#include "float16.h"

#define MMQUAD_BYTES 16

namespace mmquad::baseline {
#include "kernels.inc"
}  // namespace mmquad::baseline
