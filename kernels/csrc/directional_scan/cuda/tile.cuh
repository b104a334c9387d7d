// What every kernel does with kTile positions: find their tokens, stage their rows of z in shared
// memory, load their channels into registers, compute step sizes.
#pragma once

#include "portable.h"

namespace mmquad::cuda {

constexpr float kLog2e = 1.4426950408889634f;
constexpr int kEmpty = -1;   // reads zeros: the state decays
constexpr int kBeyond = -2;  // no position at all: nothing happens
// Floats between two columns of z in shared memory: one quarter more than needed, so that the
// transposing stores spread over the banks and four tokens can be read at once.
constexpr int kColumnStride = kTile + 4;

// Where a block works. One block: one sample, direction, segment and slab of channels.
struct Place {
  int slab, segment, k, b;
  int lane, warp, warps;
  int channel;
  bool inside;  // false: a thread beyond the last channel, which computes with zeros
};

// Kernels work on directions [first, first + directions) of Sizes::directions.
MMQUAD_DEVICE Place place_of(const Sizes& s, int first, int directions) {
  Place p;
  int64_t block = blockIdx.x;
  p.slab = static_cast<int>(block % s.slabs());
  block /= s.slabs();
  p.segment = static_cast<int>(block % s.segments());
  block /= s.segments();
  p.k = first + static_cast<int>(block % directions);
  p.b = static_cast<int>(block / directions);
  const int thread = static_cast<int>(threadIdx.x);
  p.lane = thread % kWarp;
  p.warp = thread / kWarp;
  p.warps = s.width / kWarp;
  p.channel = p.slab * s.width + thread;
  p.inside = p.channel < s.channels;
  return p;
}

// Index into [B, K, outer, N, D] at the block's sample, direction and channel.
MMQUAD_DEVICE int64_t state_index(const Sizes& s, const Place& p, int outer, int i, int n) {
  const int64_t row = (static_cast<int64_t>(p.b) * s.directions + p.k) * outer + i;
  return (row * s.states + n) * s.channels + p.channel;
}

// Row of [2 + N + R, D] at the block's direction; 0 beyond the last channel.
MMQUAD_DEVICE float parameter(const Sizes& s, const Place& p, const float* parameters, int row) {
  const int64_t index = static_cast<int64_t>(p.k) * s.rows() + row;
  return p.inside ? parameters[index * s.channels + p.channel] : 0.0f;
}

// The tokens of a chunk; a barrier must follow, and precede if tiles of another chunk were read
// since the last one.
MMQUAD_DEVICE void load_tokens(
    const Sizes& s, const Place& p, const int32_t* table, int rows, int chunk, int* tokens) {
  const int sample = rows == 1 ? 0 : p.b;
  const int32_t* order =
      table + (static_cast<int64_t>(sample) * s.directions + p.k) * s.positions;
  for (int i = static_cast<int>(threadIdx.x); i < kChunk; i += s.width) {
    const int position = chunk * kChunk + i;
    tokens[i] = position < s.positions ? order[position] : kBeyond;
  }
}

// z[column][token] in shared memory; lanes on columns. A barrier must follow.
MMQUAD_DEVICE void stage_columns(
    const Sizes& s, const Place& p, const float* z, const int* tokens, float* staged) {
  const int columns = s.columns();
  for (int t = p.warp; t < kTile; t += p.warps) {
    const int64_t token = static_cast<int64_t>(p.b) * s.length + tokens[t];
    const float* row = z + (token * s.directions + p.k) * columns;
    for (int c = p.lane; c < columns; c += kWarp) {
      staged[c * kColumnStride + t] = tokens[t] < 0 ? 0.0f : row[c];
    }
  }
}

MMQUAD_DEVICE void read_column(const float* staged, int column, float (&out)[kTile]) {
  const float* from = staged + column * kColumnStride;
#pragma unroll
  for (int t = 0; t < kTile; t += 4) {
    const float4 four = *reinterpret_cast<const float4*>(from + t);
    out[t] = four.x;
    out[t + 1] = four.y;
    out[t + 2] = four.z;
    out[t + 3] = four.w;
  }
}

// One channel of kTile rows of a [., D] table, from row `first` on.
template <typename Load>
MMQUAD_DEVICE void load_channel(
    const Sizes& s, const Place& p, int64_t first, const int* tokens, float (&out)[kTile],
    const Load& load) {
#pragma unroll
  for (int t = 0; t < kTile; ++t) {
    const int64_t i = (first + tokens[t]) * s.channels + p.channel;
    out[t] = p.inside && tokens[t] >= 0 ? load(i) : 0.0f;
  }
}

MMQUAD_DEVICE void load_x(
    const Sizes& s, const Place& p, const Inputs& in, const int* tokens, float (&out)[kTile]) {
  const int64_t first = static_cast<int64_t>(p.b) * s.length;
  if (in.type == TokenType::float32) {
    const float* x = static_cast<const float*>(in.x);
    load_channel(s, p, first, tokens, out, [=](int64_t i) { return x[i]; });
  } else {
    const uint16_t* x = static_cast<const uint16_t*>(in.x);
    if (in.type == TokenType::float16) {
      load_channel(s, p, first, tokens, out, [=](int64_t i) { return widen_half(x[i]); });
    } else {
      load_channel(s, p, first, tokens, out, [=](int64_t i) { return widen_bfloat16(x[i]); });
    }
  }
}

// Row of token 0 in y and dy, [B, L, D] or [B, K, L, D].
MMQUAD_DEVICE int64_t first_row(const Sizes& s, const Place& p, bool merge) {
  const int64_t sequence = merge ? p.b : static_cast<int64_t>(p.b) * s.directions + p.k;
  return sequence * s.length;
}

MMQUAD_DEVICE void load_dy(
    const Sizes& s, const Place& p, const float* dy, bool merge, const int* tokens,
    float (&out)[kTile]) {
  load_channel(s, p, first_row(s, p, merge), tokens, out, [=](int64_t i) { return dy[i]; });
}

// log(1 + e^x), to float32's relative accuracy at both ends.
MMQUAD_DEVICE float softplus(float x) {
  return fmaxf(x, 0.0f) + log1pf(exp2_fast(-fabsf(x) * kLog2e));
}

// Its derivative, from its value.
MMQUAD_DEVICE float softplus_slope(float delta) { return -expm1f(-delta); }

MMQUAD_DEVICE void step_sizes(
    const Sizes& s, const Place& p, const float* parameters, const float* staged,
    const int* tokens, float (&delta)[kTile]) {
  const float bias = parameter(s, p, parameters, 0);
#pragma unroll
  for (int t = 0; t < kTile; ++t) delta[t] = bias;
  for (int r = 0; r < s.ranks; ++r) {
    const float weight = parameter(s, p, parameters, 2 + s.states + r);
    float rank[kTile];
    read_column(staged, r, rank);
#pragma unroll
    for (int t = 0; t < kTile; ++t) delta[t] += weight * rank[t];
  }
#pragma unroll
  for (int t = 0; t < kTile; ++t) {
    delta[t] = tokens[t] == kBeyond ? 0.0f : softplus(delta[t]);
  }
}

}  // namespace mmquad::cuda
