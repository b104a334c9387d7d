// Grids and launches. One instance of each kernel for 1, up to kFewStates, and up to kMostStates
// states: unrolled code for every number would be ten times as much to compile and to load.
#include "backward.cuh"
#include "forward.cuh"
#include "launch.h"

namespace mmquad::cuda {
namespace {

int64_t blocks_of(const Sizes& s, int directions) {
  return static_cast<int64_t>(s.slabs()) * s.segments() * directions * s.batch;
}

int64_t forward_bytes(const Sizes& s) {
  return sizeof(float) * (kChunk + s.columns() * kColumnStride);
}

template <int States, bool Backwards>
void run_local(
    const Sizes& s, const Inputs& in, const float* dy, bool merge, float* carry, float* decay,
    cudaStream_t stream) {
  auto local = local_kernel<States, Backwards>;
  MMQUAD_LAUNCH(local, blocks_of(s, s.directions), s.width, forward_bytes(s), stream, s, in, dy,
                merge, carry, decay);
  const int64_t sequences = static_cast<int64_t>(s.batch) * s.directions * s.states;
  const int64_t blocks = (sequences * s.channels + kMostThreads - 1) / kMostThreads;
  MMQUAD_LAUNCH(combine_kernel, blocks, kMostThreads, 0, stream, s, in.parameters, carry, decay,
                Backwards);
}

template <int States>
void forward(const Sizes& s, const Inputs& in, const Outputs& out, cudaStream_t stream) {
  if (s.segments() > 1) {
    run_local<States, false>(s, in, nullptr, out.merge, out.carry, out.decay, stream);
  }
  const int together = out.merge ? 1 : s.directions;
  auto kernel = forward_kernel<States>;
  for (int k = 0; k < s.directions; k += together) {
    MMQUAD_LAUNCH(kernel, blocks_of(s, together), s.width, forward_bytes(s), stream, s, in, out, k,
                  together);
  }
}

template <int States>
void backward(const Sizes& s, const Inputs& in, const Gradients& grad, cudaStream_t stream) {
  if (s.segments() > 1) {
    run_local<States, true>(s, in, grad.dy, grad.merge, grad.carry, grad.decay, stream);
  }
  const int64_t bytes = sizeof(float) * BackwardShared::of(s, States).total;
  auto kernel = backward_kernel<States>;
  for (int k = 0; k < s.directions; ++k) {
    MMQUAD_LAUNCH(kernel, blocks_of(s, 1), s.width, bytes, stream, s, in, grad, k);
  }
}

}  // namespace

int run_forward(const Sizes& s, const Inputs& in, const Outputs& out, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  if (s.states == 1) forward<1>(s, in, out, queue);
  else if (s.states <= kFewStates) forward<kFewStates>(s, in, out, queue);
  else forward<kMostStates>(s, in, out, queue);
  return cudaGetLastError();
}

int run_backward(const Sizes& s, const Inputs& in, const Gradients& grad, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  if (s.states == 1) backward<1>(s, in, grad, queue);
  else if (s.states <= kFewStates) backward<kFewStates>(s, in, grad, queue);
  else backward<kMostStates>(s, in, grad, queue);
  return cudaGetLastError();
}

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace mmquad::cuda
