// What the CPU kernels compute, free of any torch type: plain pointers to contiguous arrays.
//
// Letters are those of docs/notation.md: B samples, L tokens, D channels, K directions, N states,
// R ranks. C = R + 2 N columns of z belong to a direction: step size, B, C, in this order.
#pragma once

#include <cstdint>

namespace mmquad {

// Channels handled together, and tokens between two saved states.
constexpr int64_t kBlock = 32;
constexpr int64_t kChunk = 64;

struct Shape {
  int64_t batch, length, channels, directions, states, ranks;
  int64_t orders;  // samples with an order of their own: 1 or B

  int64_t blocks() const { return (channels + kBlock - 1) / kBlock; }
  int64_t chunks() const { return (length + kChunk - 1) / kChunk; }
  int64_t columns() const { return ranks + 2 * states; }
};

// X: type of the tokens; T: float or double, of everything else.
template <typename X, typename T>
struct Inputs {
  Shape shape;
  const X* x;            // [B, L, D]
  const T* z;            // [B, L, K, C]
  const T* dt_weight;    // [K, D, R]
  const T* dt_bias;      // [K, D]
  const T* A;            // [K, D, N]
  const T* skip;         // [K, D]
  const int64_t* order;  // [1 or B, K, L]
};

template <typename T>
struct Outputs {
  T* y;       // [B, L, D]
  T* states;  // [B, K, chunks, N, D], the state before each chunk; null: not wanted
};

// Gradients of the parameters stay separate per sample, those of z per group of channels: the
// caller adds them in a fixed order.
template <typename T>
struct Gradients {
  const T* dy;            // [B, L, D]
  const T* states;        // [B, K, chunks, N, D]
  const int64_t* orders;  // [2, K, L], coarse and fine, or null: no windows
  const int64_t* window;  // [L]
  int64_t windows, groups;
  T* dx;         // [B, L, D]
  T* dz;         // [G, B, L, K, C]
  T* dweight;    // [G, B, Q]
  T* ddt_weight; // [B, K, D, R]
  T* ddt_bias;   // [B, K, D]
  T* dA;         // [B, K, D, N]
  T* dskip;      // [B, K, D]
};

// One instance per instruction set; `begin` and `end` count samples times blocks (forward) or
// samples times groups (backward).
#define MMQUAD_DECLARE_KERNELS(isa)                                                       \
  namespace isa {                                                                         \
  template <typename X, typename T>                                                       \
  void forward(const Inputs<X, T>& in, const Outputs<T>& out, int64_t begin, int64_t end); \
  template <typename X, typename T>                                                       \
  void backward(const Inputs<X, T>& in, const Gradients<T>& grad, int64_t begin, int64_t end); \
  }

MMQUAD_DECLARE_KERNELS(baseline)
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MMQUAD_X86_LEVELS 1
MMQUAD_DECLARE_KERNELS(avx2)
MMQUAD_DECLARE_KERNELS(avx512)
#endif

}  // namespace mmquad
