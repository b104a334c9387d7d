// Phase three of the gradient: each segment from its last chunk to its first, with the adjoint that
// enters from behind. Inside a chunk the states are computed again, in a first pass from tile to
// tile, whose ends are kept in shared memory, and then token by token within a tile.
#pragma once

#include "tile.cuh"

namespace mmquad::cuda {

// Where things lie in shared memory, in floats.
struct BackwardShared {
  int staged, ends, draw, sums, total;
  MMQUAD_ANYWHERE static BackwardShared of(const Sizes& s, int states) {
    BackwardShared at;
    at.staged = kChunk;
    at.ends = at.staged + s.columns() * kColumnStride;
    at.draw = at.ends + (kTilesPerChunk - 1) * states * s.width;
    at.sums = at.draw + kTile * (s.width + 4);
    at.total = at.sums + (s.width / kWarp) * (2 * states + 1) * kTile;
    return at;
  }
};

// Sums over the lanes of a warp, `Count` of them at once: every exchange halves how many a lane
// still carries. The lane returns the sum of number lane / (kWarp / Count), in a fixed order.
template <int Count, int Offset = kWarp / 2>
MMQUAD_DEVICE float lane_sums(const float (&values)[Count], int lane) {
  if constexpr (Count > 1) {
    const bool upper = (lane & Offset) != 0;
    float kept[Count / 2];
#pragma unroll
    for (int i = 0; i < Count / 2; ++i) {
      const float sent = upper ? values[i] : values[i + Count / 2];
      kept[i] = upper ? values[i + Count / 2] : values[i];
      kept[i] += __shfl_xor_sync(0xffffffffu, sent, Offset);
    }
    return lane_sums<Count / 2, Offset / 2>(kept, lane);
  } else {
    float sum = values[0];
#pragma unroll
    for (int offset = Offset; offset >= 1; offset /= 2) {
      sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    }
    return sum;
  }
}

// The states after every tile of a chunk but the last, ends[tile][n][thread].
template <int States>
MMQUAD_DEVICE void tile_ends(
    const Sizes& s, const Place& p, const Inputs& in, const int* tokens, float (&h)[States],
    float* staged, float* ends) {
  for (int j = 0; j < kTilesPerChunk - 1; ++j) {
    const int* tile = tokens + kTile * j;
    if (tile[kTile] == kBeyond) return;  // this tile is the last
    float drive[kTile], delta[kTile];
    stage_columns(s, p, in.z, tile, staged);
    load_x(s, p, in, tile, drive);
    __syncthreads();
    step_sizes(s, p, in.parameters, staged, tile, delta);
#pragma unroll
    for (int t = 0; t < kTile; ++t) drive[t] *= delta[t];
#pragma unroll
    for (int n = 0; n < States; ++n) {
      if (n >= s.states) break;
      const float A = parameter(s, p, in.parameters, 2 + n) * kLog2e;
      float B[kTile];
      read_column(staged, s.ranks + n, B);
#pragma unroll
      for (int t = 0; t < kTile; ++t) h[n] = exp2_fast(delta[t] * A) * h[n] + drive[t] * B[t];
      ends[(j * States + n) * s.width + threadIdx.x] = h[n];
    }
    __syncthreads();
  }
}

// What a thread holds of one tile.
struct TileValues {
  float x[kTile], dy[kTile], delta[kTile], y[kTile], ddrive[kTile], ddelta[kTile];
};

// One state through one tile: again forwards from `h`, then the adjoint g_t = dLoss / dh_t
// backwards. `adjoint` is what is passed on from token to token, a_t g_t. Returns the gradients of
// B and C at the tile's tokens, summed over the warp's channels, in the order of lane_sums.
MMQUAD_DEVICE float state_gradient(
    float A, float h, const float (&B)[kTile], const float (&C)[kTile], int lane, TileValues& v,
    float& adjoint, float& dA) {
  float a[kTile], before[kTile], sums[2 * kTile];
#pragma unroll
  for (int t = 0; t < kTile; ++t) {
    a[t] = exp2_fast(v.delta[t] * (A * kLog2e));
    before[t] = h;
    h = a[t] * h + v.delta[t] * v.x[t] * B[t];
    v.y[t] += h * C[t];
    sums[kTile + t] = v.dy[t] * h;
  }
#pragma unroll
  for (int t = kTile - 1; t >= 0; --t) {
    const float g = adjoint + v.dy[t] * C[t];
    sums[t] = g * (v.delta[t] * v.x[t]);
    v.ddrive[t] += g * B[t];
    adjoint = a[t] * g;
    const float carried = adjoint * before[t];
    dA += carried * v.delta[t];
    v.ddelta[t] += carried * A;
  }
  return lane_sums(sums, lane);
}

// What each position would lose if the rival token were read instead, over the warp's channels:
// on the way out (y with dy) and on the way in (dx with x).
MMQUAD_DEVICE float choice_score(
    const Sizes& s, const Place& p, const Inputs& in, const Gradients& grad, const int* tile,
    int position, const TileValues& v, const float (&dx)[kTile]) {
  const int32_t* rivals =
      grad.rival + (static_cast<int64_t>(p.b) * s.directions + p.k) * s.positions + position;
  int rival[kTile];
#pragma unroll
  for (int t = 0; t < kTile; ++t) {
    rival[t] = tile[t] < 0 ? kEmpty : rivals[t];
  }
  float other_x[kTile], other_dy[kTile], score[kTile];
  load_x(s, p, in, rival, other_x);
  load_dy(s, p, grad.dy, grad.merge, rival, other_dy);
#pragma unroll
  for (int t = 0; t < kTile; ++t) {
    score[t] = v.y[t] * (v.dy[t] - other_dy[t]) + dx[t] * (v.x[t] - other_x[t]);
  }
  return lane_sums(score, p.lane);
}

// The block's sums of a tile, from those of its warps and channels, into global memory.
template <int States>
MMQUAD_DEVICE void store_sums(
    const Sizes& s, const Place& p, const Inputs& in, const Gradients& grad, const int* tile,
    int position, const float* draw, const float* sums) {
  const int columns = s.columns();
  const int64_t row = (static_cast<int64_t>(p.slab) * s.batch + p.b) * s.length;
  const int64_t weights = (static_cast<int64_t>(p.k) * s.rows() + 2 + s.states) * s.channels;
  const int channels = min(s.width, s.channels - p.slab * s.width);
  for (int i = static_cast<int>(threadIdx.x); i < columns * kTile; i += s.width) {
    const int t = i % kTile, c = i / kTile;
    if (tile[t] < 0) continue;
    float sum = 0.0f;
    if (c < s.ranks) {
      const float* weight =
          in.parameters + weights + static_cast<int64_t>(c) * s.channels + p.slab * s.width;
      const float* from = draw + t * (s.width + 4);
#pragma unroll 4
      for (int d = 0; d < channels; ++d) sum += from[d] * weight[d];
    } else {
      // sums[warp][n][B, C][token], as lane_sums leaves them.
      const int n = (c - s.ranks) % s.states, part = (c - s.ranks) / s.states;
      for (int w = 0; w < p.warps; ++w) {
        sum += sums[((w * (2 * States + 1)) + 2 * n + part) * kTile + t];
      }
    }
    grad.dz[((row + tile[t]) * s.directions + p.k) * columns + c] = sum;
  }
  if (grad.rival == nullptr) return;
  for (int t = static_cast<int>(threadIdx.x); t < kTile; t += s.width) {
    if (tile[t] < 0) continue;
    float sum = 0.0f;
    for (int w = 0; w < p.warps; ++w) {
      sum += sums[(w * (2 * States + 1) + 2 * States) * kTile + t];
    }
    const int64_t sequence =
        ((static_cast<int64_t>(p.slab) * s.batch + p.b) * s.directions + p.k) * s.positions;
    grad.scores[sequence + position + t] = sum;
  }
}

template <int States>
constexpr int kBackwardThreads = States > kFewStates ? kMostThreadsManyStates : kMostThreads;
template <int States>
constexpr int kBackwardBlocks = States == 1 ? 4 : States <= kFewStates ? 2 : 4;

// For direction `k` alone: merged gradients of x are added launch after launch, as y is.
template <int States>
__global__ void __launch_bounds__(kBackwardThreads<States>, kBackwardBlocks<States>)
    backward_kernel(Sizes s, Inputs in, Gradients grad, int k) {
  MMQUAD_SHARED(shared);
  const BackwardShared at = BackwardShared::of(s, States);
  int* const tokens = reinterpret_cast<int*>(shared);
  float* const staged = shared + at.staged;
  float* const ends = shared + at.ends;
  float* const draws = shared + at.draw;
  float* const sums = shared + at.sums;
  const Place p = place_of(s, k, 1);
  const int segments = s.segments(), thread = static_cast<int>(threadIdx.x);
  const float skip = parameter(s, p, in.parameters, 1);
  const int64_t sequence = static_cast<int64_t>(p.b) * s.directions + p.k;
  float* const dparameters =
      grad.dparameters + (sequence * segments + p.segment) * s.rows() * s.channels + p.channel;
  float adjoint[States] = {}, dA[States] = {}, dbias = 0.0f, dskip = 0.0f;
  bool first_tile = true;
  if (segments > 1 && p.inside) {
#pragma unroll
    for (int n = 0; n < States; ++n) {
      if (n < s.states) adjoint[n] = grad.carry[state_index(s, p, segments, p.segment, n)];
    }
  }

  for (int i = s.span - 1; i >= 0; --i) {
    const int chunk = p.segment * s.span + i;
    if (chunk >= s.chunks()) continue;
    __syncthreads();
    load_tokens(s, p, in.order, s.orders, chunk, tokens);
    __syncthreads();
    float h[States] = {};
#pragma unroll
    for (int n = 0; n < States; ++n) {
      if (n < s.states && p.inside) {
        h[n] = grad.states[state_index(s, p, s.chunks(), chunk, n)];
      }
    }
    tile_ends(s, p, in, tokens, h, staged, ends);

    for (int j = kTilesPerChunk - 1; j >= 0; --j) {
      const int* tile = tokens + kTile * j;
      if (tile[0] == kBeyond) continue;
      TileValues v;
      stage_columns(s, p, in.z, tile, staged);
      load_x(s, p, in, tile, v.x);
      load_dy(s, p, grad.dy, grad.merge, tile, v.dy);
      __syncthreads();
      step_sizes(s, p, in.parameters, staged, tile, v.delta);
#pragma unroll
      for (int t = 0; t < kTile; ++t) {
        v.y[t] = skip * v.x[t];
        v.ddrive[t] = v.ddelta[t] = 0.0f;
      }
      float* const own_sums = sums + p.warp * (2 * States + 1) * kTile;
#pragma unroll
      for (int n = 0; n < States; ++n) {
        if (n >= s.states) break;
        float start = 0.0f;
        if (j > 0) {
          start = ends[((j - 1) * States + n) * s.width + thread];
        } else if (p.inside) {
          start = grad.states[state_index(s, p, s.chunks(), chunk, n)];
        }
        float B[kTile], C[kTile];
        read_column(staged, s.ranks + n, B);
        read_column(staged, s.ranks + s.states + n, C);
        const float A = parameter(s, p, in.parameters, 2 + n);
        const float sum = state_gradient(A, start, B, C, p.lane, v, adjoint[n], dA[n]);
        if (p.lane % 2 == 0) own_sums[2 * n * kTile + p.lane / 2] = sum;
      }

      float dx[kTile], draw[kTile];
#pragma unroll
      for (int t = 0; t < kTile; ++t) {
        dx[t] = skip * v.dy[t] + v.ddrive[t] * v.delta[t];
        dskip += v.dy[t] * v.x[t];
        // The gradient of the step before softplus.
        draw[t] = (v.ddelta[t] + v.ddrive[t] * v.x[t]) * softplus_slope(v.delta[t]);
        dbias += draw[t];
        draws[t * (s.width + 4) + thread] = draw[t];
        if (!p.inside || tile[t] < 0) continue;
        const int64_t row = static_cast<int64_t>(p.b) * s.length + tile[t];
        float* to = grad.dx + row * s.channels + p.channel;
        *to = k > 0 ? *to + dx[t] : dx[t];
      }
      const int position = chunk * kChunk + j * kTile;
      if (grad.rival != nullptr) {
        const float score = choice_score(s, p, in, grad, tile, position, v, dx);
        if (p.lane % 4 == 0) own_sums[2 * States * kTile + p.lane / 4] = score;
      }
      for (int r = 0; r < s.ranks; ++r) {
        float rank[kTile], sum = 0.0f;
        read_column(staged, r, rank);
#pragma unroll
        for (int t = 0; t < kTile; ++t) sum += draw[t] * rank[t];
        float* to = dparameters + static_cast<int64_t>(2 + s.states + r) * s.channels;
        if (p.inside) *to = first_tile ? sum : *to + sum;
      }
      first_tile = false;
      __syncthreads();
      store_sums<States>(s, p, in, grad, tile, position, draws, sums);
    }
  }
  if (!p.inside) return;
  dparameters[0] = dbias;
  dparameters[s.channels] = dskip;
#pragma unroll
  for (int n = 0; n < States; ++n) {
    if (n < s.states) dparameters[static_cast<int64_t>(2 + n) * s.channels] = dA[n];
  }
}

}  // namespace mmquad::cuda
