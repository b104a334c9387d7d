// Tokens in narrow types, widened when they are read.
#pragma once

#include <cstdint>
#include <cstring>

namespace mmquad {

struct BFloat16 {
  uint16_t bits;
};

struct Half {
  uint16_t bits;
};

inline __attribute__((always_inline)) float widen(float value) { return value; }
inline __attribute__((always_inline)) double widen(double value) { return value; }

inline __attribute__((always_inline)) float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline __attribute__((always_inline)) float widen(BFloat16 value) {
  return from_bits(uint32_t{value.bits} << 16);
}

// Branch-free, so that it vectorises: exponents are rebased by a multiplication, which also makes
// subnormal numbers right; infinity and NaN get their exponent filled.
inline __attribute__((always_inline)) float widen(Half value) {
  const uint32_t magnitude = uint32_t{value.bits} & 0x7fffu;
  const uint32_t sign = (uint32_t{value.bits} & 0x8000u) << 16;
  const float finite = from_bits(magnitude << 13) * 0x1p112f;
  uint32_t bits;
  std::memcpy(&bits, &finite, sizeof bits);
  bits |= magnitude >= 0x7c00u ? 0x7f800000u : 0u;
  return from_bits(bits | sign);
}

}  // namespace mmquad
