// What the CUDA kernels compute, free of any torch or CUDA type.
//
// Letters are those of docs/notation.md: B samples, L tokens, D channels, K directions, N states,
// R ranks; P positions of a direction. C = R + 2 N columns of z belong to a direction: step size,
// B, C. Parameters of a direction are rows of D numbers, so that neighbouring threads read
// neighbouring numbers: bias, skip, N rows of A, R rows of the step projection.
//
// Positions are cut twice. A chunk is what lies between two saved states. A segment, `span` chunks,
// is what one thread walks through; segments run side by side.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define MMQUAD_ANYWHERE __host__ __device__
#else
#define MMQUAD_ANYWHERE
#endif

namespace mmquad::cuda {

constexpr int kChunk = 64;
// Tokens that a thread holds in registers at a time.
constexpr int kTile = 8;
constexpr int kTilesPerChunk = kChunk / kTile;
constexpr int kWarp = 32;
// Threads of a block: one per channel. Above kFewStates states of the gradient's checkpoints in
// shared memory and its registers allow half as many.
constexpr int kMostThreads = 128;
constexpr int kFewStates = 4;
constexpr int kMostThreadsManyStates = 64;
constexpr int kMostStates = 16;
// Keeps every block below the 48 KiB of shared memory that all devices grant without asking.
constexpr int kMostColumns = 256;

enum class TokenType : int { float32, float16, bfloat16 };

struct Sizes {
  int batch, length, positions, channels, directions, states, ranks;
  int orders;  // samples with an order of their own: 1 or B
  int width;   // channels of a block, a multiple of kWarp
  int span;    // chunks of a segment

  MMQUAD_ANYWHERE int columns() const { return ranks + 2 * states; }
  MMQUAD_ANYWHERE int rows() const { return 2 + states + ranks; }
  MMQUAD_ANYWHERE int slabs() const { return (channels + width - 1) / width; }
  MMQUAD_ANYWHERE int chunks() const { return (positions + kChunk - 1) / kChunk; }
  MMQUAD_ANYWHERE int segments() const { return (chunks() + span - 1) / span; }
};

struct Inputs {
  const void* x;  // [B, L, D] in `type`
  TokenType type;
  const float* z;           // [B, L, K, C]
  const float* parameters;  // [K, 2 + N + R, D]
  const int32_t* order;     // [1 or B, K, P], -1 at empty positions
};

// The states of all chunks are wanted for the gradient only: null otherwise. `carry` and `decay`
// are scratch, unused where there is one segment.
struct Outputs {
  float* y;  // [B, L, D], or [B, K, L, D] unmerged
  bool merge;
  float* states;  // [B, K, chunks, N, D], before each chunk
  float* carry;   // [B, K, segments, N, D]
  float* decay;   // [B, K, segments, D], sum of the step sizes
};

// Parts of a sum stay apart, to be added in a fixed order by the caller: parameters per sample and
// segment, z per slab.
struct Gradients {
  const float* dy;  // in the shape of y
  bool merge;
  const float* states;   // [B, K, chunks, N, D]
  const int32_t* rival;  // [B, K, P], the token that would be read otherwise; null: no windows
  float* dx;             // [B, L, D]
  float* dz;             // [slabs, B, L, K, C]
  float* dparameters;    // [B, K, segments, 2 + N + R, D]
  float* scores;         // [slabs, B, K, P], what reading `rival` would have lost, without z's part
  float* carry;          // [B, K, segments, N, D]
  float* decay;          // [B, K, segments, D]
};

}  // namespace mmquad::cuda
