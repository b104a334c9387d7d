// What the CPU kernels compute, free of any torch type: plain pointers to arrays. One kernel serves
// both ops: the directional scan reads tokens in K orders and projects their step sizes from ranks;
// the selective scan reads them as they lie, K groups of channels side by side, steps given.
//
// Letters are those of docs/notation.md: B samples, L tokens, P positions, D channels, K directions,
// N states, R ranks. C = R + 2 N columns of z belong to a direction: step size, B, C, in this order.
#pragma once

#include <algorithm>
#include <cstdint>

namespace mmquad {

// Channels handled together, and positions between two saved states.
constexpr int64_t kBlock = 32;
constexpr int64_t kChunk = 64;

// Sums over channels are formed per group of blocks and then pairwise, whoever computes a group: so
// they do not depend on how many threads there are.
constexpr int64_t kMaxGroups = 8;

struct Shape {
  int64_t batch, length, positions, channels, directions, states, ranks;
  int64_t orders;  // samples with an order of their own: 1 or B

  int64_t blocks() const { return (channels + kBlock - 1) / kBlock; }
  int64_t chunks() const { return (positions + kChunk - 1) / kChunk; }
  int64_t columns() const { return ranks + 2 * states; }
  int64_t groups() const {  // a power of two
    int64_t groups = 1;
    while (2 * groups <= std::min(blocks(), kMaxGroups)) groups *= 2;
    return groups;
  }
};

// A row of channels per sample, direction and token; strides between them, in elements.
template <typename X>
struct Rows {
  X* data;
  int64_t batch, direction, token;

  X* at(int64_t b, int64_t k, int64_t t) const {
    return data + b * batch + k * direction + t * token;
  }
  // All directions have the same rows: results are added up, one direction after the other.
  bool shared() const { return direction == 0; }
};

// Where the D channels of one state lie in [B, K, N, D].
inline int64_t state_row(const Shape& s, int64_t b, int64_t k, int64_t n) {
  return ((b * s.directions + k) * s.states + n) * s.channels;
}

// X: type of the tokens; T: float or double, of everything else. Null: absent.
template <typename X, typename T>
struct Inputs {
  Shape shape;
  Rows<const X> x;
  Rows<const T> raw;     // steps before bias and softplus; null: projected from ranks
  const T* z;            // [B, L, K, C]
  const T* dt_weight;    // [K, D, R]; null only without ranks
  const T* dt_bias;      // [K, D] or null
  const T* A;            // [K, D, N]
  const T* skip;         // [K, D] or null
  const T* initial;      // [B, K, N, D], the state before the first position; null: zero
  const int32_t* order;  // [1 or B, K, P], -1 at empty positions; null: tokens as they lie
  bool softplus;
};

template <typename T>
struct Outputs {
  Rows<T> y;  // null: only states are wanted
  T* states;  // [B, K, chunks, N, D], the state before each chunk; null: not wanted
  T* last;    // [B, K, N, D], the state after the last position; null: not wanted
};

// Gradients of the parameters stay separate per sample, those of z per slot, a slot being one of
// the equal parts into which the groups of channels are dealt: the caller adds them up in order.
template <typename T>
struct Gradients {
  Rows<const T> dy;
  const T* states;        // [B, K, chunks, N, D]
  const T* dlast;         // [B, K, N, D] or null
  const int32_t* orders;  // [2, K, L], coarse and fine; null: no windows
  const int32_t* window;  // [L]
  int64_t windows, slots;
  Rows<T> dx;
  Rows<T> draw;   // of Inputs::raw
  T* dz;          // [slots, B, L, K, C]
  T* dweight;     // [K, groups, B, Q]
  T* ddt_weight;  // [B, K, D, R]
  T* ddt_bias;    // [B, K, D]
  T* dA;          // [B, K, D, N]
  T* dskip;       // [B, K, D]
  T* dinitial;    // [B, K, N, D]; null: not wanted
};

// Tasks that may run at the same time, numbered with the block (forward) or slot (backward) fastest.
// Shared rows are added to by all directions, so one task then takes them all.
template <typename T>
int64_t forward_tasks(const Shape& s, const Outputs<T>& out) {
  return s.batch * (out.y.shared() ? 1 : s.directions) * s.blocks();
}

template <typename T>
int64_t backward_tasks(const Shape& s, const Gradients<T>& grad) {
  return s.batch * (grad.dx.shared() ? 1 : s.directions) * grad.slots;
}

// One instance per instruction set; each runs the tasks [begin, end).
#define MMQUAD_DECLARE_KERNELS(isa)                                                            \
  namespace isa {                                                                              \
  template <typename X, typename T>                                                            \
  void forward(const Inputs<X, T>& in, const Outputs<T>& out, int64_t begin, int64_t end);     \
  template <typename X, typename T>                                                            \
  void backward(const Inputs<X, T>& in, const Gradients<T>& grad, int64_t begin, int64_t end); \
  }

MMQUAD_DECLARE_KERNELS(baseline)
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MMQUAD_X86_LEVELS 1
MMQUAD_DECLARE_KERNELS(avx2)
MMQUAD_DECLARE_KERNELS(avx512)
#endif

// The best instance this processor can run, on PyTorch's threads.
template <typename X, typename T>
void run_forward(const Inputs<X, T>& in, const Outputs<T>& out);
template <typename X, typename T>
void run_backward(const Inputs<X, T>& in, const Gradients<T>& grad);

}  // namespace mmquad
