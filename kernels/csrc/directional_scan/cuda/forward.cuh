// Three phases: every segment by itself from a zero state; the states between segments; every
// segment again from its true state. The first two also serve the adjoint, which runs backwards.
#pragma once

#include "tile.cuh"

namespace mmquad::cuda {

// Blocks that shall fit on a multiprocessor; the compiler fits registers to it. Chosen as the most
// with which nvcc 13.0 spills none for capability 9.0.
template <int States>
constexpr int kForwardBlocks = States == 1 ? 6 : States <= kFewStates ? 4 : 3;

// Shared memory of both kernels: tokens of a chunk, columns of a tile.
MMQUAD_DEVICE float* staged_columns(float* shared) { return shared + kChunk; }

// Phase one. Forwards: h_t = a_t h_{t-1} + (delta x)_t B_t, the state after the segment. Backwards:
// G_t = a_t (G_{t+1} + dy_t C_t), what the segment passes on to the tokens before it. States is an
// upper limit of the number of states.
template <int States, bool Backwards>
__global__ void __launch_bounds__(kMostThreads, kForwardBlocks<States>)
    local_kernel(Sizes s, Inputs in, const float* dy, bool merge, float* carry, float* decay) {
  MMQUAD_SHARED(shared);
  int* const tokens = reinterpret_cast<int*>(shared);
  float* const staged = staged_columns(shared);
  const int segments = s.segments();
  const Place p = place_of(s, 0, s.directions);
  const int first_column = Backwards ? s.ranks + s.states : s.ranks;
  float h[States] = {}, total = 0.0f;

  for (int i = 0; i < s.span; ++i) {
    const int chunk = p.segment * s.span + (Backwards ? s.span - 1 - i : i);
    if (chunk >= s.chunks()) continue;
    load_tokens(s, p, in.order, s.orders, chunk, tokens);
    __syncthreads();
    for (int j = 0; j < kTilesPerChunk; ++j) {
      const int* tile = tokens + kTile * (Backwards ? kTilesPerChunk - 1 - j : j);
      if (tile[0] == kBeyond) continue;
      float drive[kTile], delta[kTile];
      stage_columns(s, p, in.z, tile, staged);
      if (Backwards) {
        load_dy(s, p, dy, merge, tile, drive);
      } else {
        load_x(s, p, in, tile, drive);
      }
      __syncthreads();
      step_sizes(s, p, in.parameters, staged, tile, delta);
#pragma unroll
      for (int t = 0; t < kTile; ++t) {
        total += delta[t];
        if (!Backwards) drive[t] *= delta[t];
      }
#pragma unroll
      for (int n = 0; n < States; ++n) {
        if (n >= s.states) break;
        const float A = parameter(s, p, in.parameters, 2 + n) * kLog2e;
        float column[kTile];
        read_column(staged, first_column + n, column);
#pragma unroll
        for (int i = 0; i < kTile; ++i) {
          const int t = Backwards ? kTile - 1 - i : i;
          const float a = exp2_fast(delta[t] * A);
          h[n] = Backwards ? a * (h[n] + drive[t] * column[t]) : a * h[n] + drive[t] * column[t];
        }
      }
      __syncthreads();
    }
  }
  if (!p.inside) return;
#pragma unroll
  for (int n = 0; n < States; ++n) {
    if (n < s.states) carry[state_index(s, p, segments, p.segment, n)] = h[n];
  }
  const int64_t sequence = static_cast<int64_t>(p.b) * s.directions + p.k;
  decay[(sequence * segments + p.segment) * s.channels + p.channel] = total;
}

// Phase two, in place: carry[i] becomes what enters segment i. One thread per sequence, state and
// channel. The decay over a segment is exp(A sum(delta)), of which expm1 keeps every digit: a
// product of rounded decays that are close to 1 has lost them.
__global__ void __launch_bounds__(kMostThreads)
    combine_kernel(Sizes s, const float* parameters, float* carry, const float* decay,
                   bool backwards) {
  constexpr int kAhead = 8;  // loads in flight
  const int segments = s.segments();
  int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int channel = static_cast<int>(i % s.channels);
  i /= s.channels;
  const int n = static_cast<int>(i % s.states);
  const int64_t sequence = i / s.states;
  if (sequence >= static_cast<int64_t>(s.batch) * s.directions) return;
  const int64_t k = sequence % s.directions;
  const float A = parameters[(k * s.rows() + 2 + n) * s.channels + channel];
  const float* const sums = decay + sequence * segments * s.channels + channel;
  float* const states = carry + (sequence * segments * s.states + n) * s.channels + channel;
  const int64_t step = static_cast<int64_t>(s.states) * s.channels;
  float entering = 0.0f;
  for (int first = 0; first < segments; first += kAhead) {
    float local[kAhead], loss[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const int g = backwards ? segments - 1 - first - j : first + j;
      const bool exists = first + j < segments;
      local[j] = exists ? states[g * step] : 0.0f;
      loss[j] = exists ? expm1f(sums[static_cast<int64_t>(g) * s.channels] * A) : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (first + j >= segments) break;
      const int g = backwards ? segments - 1 - first - j : first + j;
      states[g * step] = entering;
      entering += loss[j] * entering + local[j];
    }
  }
}

// Phase three, for directions [first, first + directions). Merged directions run one launch after
// another, so that each y has one owner at a time and one order of additions.
template <int States>
__global__ void __launch_bounds__(kMostThreads, kForwardBlocks<States>)
    forward_kernel(Sizes s, Inputs in, Outputs out, int first, int directions) {
  MMQUAD_SHARED(shared);
  int* const tokens = reinterpret_cast<int*>(shared);
  float* const staged = staged_columns(shared);
  const int segments = s.segments();
  const Place p = place_of(s, first, directions);
  const bool add = out.merge && p.k > 0;
  const float skip = parameter(s, p, in.parameters, 1);
  float h[States] = {};
  if (segments > 1 && p.inside) {
#pragma unroll
    for (int n = 0; n < States; ++n) {
      if (n < s.states) h[n] = out.carry[state_index(s, p, segments, p.segment, n)];
    }
  }

  for (int i = 0; i < s.span; ++i) {
    const int chunk = p.segment * s.span + i;
    if (chunk >= s.chunks()) break;
    if (out.states != nullptr && p.inside) {
#pragma unroll
      for (int n = 0; n < States; ++n) {
        if (n < s.states) out.states[state_index(s, p, s.chunks(), chunk, n)] = h[n];
      }
    }
    load_tokens(s, p, in.order, s.orders, chunk, tokens);
    __syncthreads();
    for (int j = 0; j < kTilesPerChunk; ++j) {
      const int* tile = tokens + kTile * j;
      if (tile[0] == kBeyond) break;
      float drive[kTile], delta[kTile], y[kTile];
      stage_columns(s, p, in.z, tile, staged);
      load_x(s, p, in, tile, drive);
      __syncthreads();
      step_sizes(s, p, in.parameters, staged, tile, delta);
#pragma unroll
      for (int t = 0; t < kTile; ++t) {
        y[t] = skip * drive[t];
        drive[t] *= delta[t];
      }
#pragma unroll
      for (int n = 0; n < States; ++n) {
        if (n >= s.states) break;
        const float A = parameter(s, p, in.parameters, 2 + n) * kLog2e;
        float B[kTile], C[kTile];
        read_column(staged, s.ranks + n, B);
        read_column(staged, s.ranks + s.states + n, C);
#pragma unroll
        for (int t = 0; t < kTile; ++t) {
          h[n] = exp2_fast(delta[t] * A) * h[n] + drive[t] * B[t];
          y[t] += h[n] * C[t];
        }
      }
      const int64_t row = first_row(s, p, out.merge);
#pragma unroll
      for (int t = 0; t < kTile; ++t) {
        if (!p.inside || tile[t] < 0) continue;
        float* to = out.y + (row + tile[t]) * s.channels + p.channel;
        *to = add ? *to + y[t] : y[t];
      }
      __syncthreads();
    }
  }
}

}  // namespace mmquad::cuda
