// The CUDA ops: schemas, checks, device and stream. Outputs and scratch are allocated by the caller.
//
// Compiled by the host compiler. The tests compile it with MMQUAD_EMULATED, too, which registers
// the kernels run by the emulation for tensors in host memory, under another name.
#include <algorithm>

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include "launch.h"

#ifdef MMQUAD_EMULATED
#define MMQUAD_LIBRARY mmquad_emulated
#define MMQUAD_DISPATCH_KEY CPU
#else
#include <Python.h>

#define MMQUAD_LIBRARY mmquad_kernels
#define MMQUAD_DISPATCH_KEY CUDA
// Declared by torch's header only for code compiled as part of torch.
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);
#endif

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

namespace mmquad::cuda {
namespace {

bool is_here(const Tensor& tensor) {
#ifdef MMQUAD_EMULATED
  return tensor.is_cpu();
#else
  return tensor.is_cuda();
#endif
}

// Checks a tensor against what the kernels take for granted, and returns its memory.
template <typename T>
T* data_of(const char* name, const Tensor& tensor, const Tensor& x, ScalarType type,
           std::initializer_list<int64_t> expected) {
  bool fits = tensor.is_contiguous() && is_here(tensor) && tensor.scalar_type() == type &&
              tensor.get_device_index() == x.get_device_index() &&
              tensor.dim() == static_cast<int64_t>(expected.size());
  int64_t i = 0;
  for (int64_t size : expected) {
    fits = fits && tensor.size(i) == size;
    ++i;
  }
  STD_TORCH_CHECK(fits, "mmquad_kernels: ", name, " has a wrong shape, layout, dtype or device");
  return tensor.numel() == 0 ? nullptr : static_cast<T*>(tensor.mutable_data_ptr());
}

float* floats_of(const char* name, const Tensor& tensor, const Tensor& x,
                 std::initializer_list<int64_t> expected) {
  return data_of<float>(name, tensor, x, ScalarType::Float, expected);
}

TokenType token_type(const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return TokenType::float32;
    case ScalarType::Half:
      return TokenType::float16;
    case ScalarType::BFloat16:
      return TokenType::bfloat16;
    default:
      STD_TORCH_CHECK(false, "mmquad_kernels: x must be float32, float16 or bfloat16");
  }
}

struct Problem {
  Sizes sizes;
  Inputs in;
};

// order may be read out of bounds if it is not a permutation, so its values are the caller's duty.
Problem problem_of(const Tensor& x, const Tensor& z, const Tensor& parameters, const Tensor& order,
                   int64_t states, int64_t width, int64_t span) {
  STD_TORCH_CHECK(x.dim() == 3 && z.dim() == 3 && parameters.dim() == 3 && order.dim() == 3,
                  "mmquad_kernels: x, z, parameters and order have three axes");
  const int64_t ranks = parameters.size(1) - 2 - states;
  const int64_t most = int64_t{1} << 30;
  STD_TORCH_CHECK(states >= 1 && states <= kMostStates && ranks >= 1 &&
                      ranks + 2 * states <= kMostColumns,
                  "mmquad_kernels: takes up to ", kMostStates, " states and ", kMostColumns,
                  " columns, got N=", states, " R=", ranks);
  STD_TORCH_CHECK(width % kWarp == 0 && width >= kWarp && span >= 1 &&
                      width <= (states > kFewStates ? kMostThreadsManyStates : kMostThreads),
                  "mmquad_kernels: wrong width or span");
  STD_TORCH_CHECK(x.size(0) * x.size(1) * parameters.size(0) < most &&
                      parameters.numel() < most && order.size(2) < most,
                  "mmquad_kernels: too many tokens");
  const Sizes s{static_cast<int>(x.size(0)),     static_cast<int>(x.size(1)),
                static_cast<int>(order.size(2)), static_cast<int>(x.size(2)),
                static_cast<int>(order.size(1)), static_cast<int>(states),
                static_cast<int>(ranks),         static_cast<int>(order.size(0)),
                static_cast<int>(width),         static_cast<int>(span)};
  STD_TORCH_CHECK(s.orders == 1 || s.orders == s.batch, "mmquad_kernels: order has 1 or B rows");
  // The blocks of a launch are counted in 31 bits.
  STD_TORCH_CHECK(int64_t{s.batch} * s.directions * s.segments() < most / std::max(s.slabs(), 1),
                  "mmquad_kernels: too many tokens");
  return {s,
          {data_of<void>("x", x, x, x.scalar_type(), {s.batch, s.length, s.channels}),
           token_type(x),
           floats_of("z", z, x, {s.batch, s.length, int64_t{s.directions} * s.columns()}),
           floats_of("parameters", parameters, x, {s.directions, s.rows(), s.channels}),
           data_of<int32_t>("order", order, x, ScalarType::Int,
                            {s.orders, s.directions, s.positions})}};
}

float* output_of(const char* name, const Tensor& y, const Tensor& x, const Sizes& s, bool merge) {
  if (merge) return floats_of(name, y, x, {s.batch, s.length, s.channels});
  return floats_of(name, y, x, {s.batch, s.directions, s.length, s.channels});
}

// Runs `launch` on the tensor's device and PyTorch's stream there.
template <typename Launch>
void on_device_of(const Tensor& x, const Launch& launch) {
#ifdef MMQUAD_EMULATED
  const int error = launch(nullptr);
#else
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
  const int error = launch(stream);
#endif
  STD_TORCH_CHECK(error == 0, "mmquad_kernels: the CUDA kernels of directional_scan did not start: ",
                  error_text(error));
}

void directional_scan(Tensor x, Tensor z, Tensor parameters, Tensor order, int64_t states,
                      int64_t width, int64_t span, bool merge, Tensor y, Tensor saved, Tensor carry,
                      Tensor decay) {
  const Problem problem = problem_of(x, z, parameters, order, states, width, span);
  const Sizes& s = problem.sizes;
  if (x.numel() == 0) return;
  Outputs out{output_of("y", y, x, s, merge), merge, nullptr,
              floats_of("carry", carry, x,
                        {s.batch, s.directions, s.segments(), s.states, s.channels}),
              floats_of("decay", decay, x, {s.batch, s.directions, s.segments(), s.channels})};
  if (saved.numel() > 0) {
    out.states = floats_of("states", saved, x,
                           {s.batch, s.directions, s.chunks(), s.states, s.channels});
  }
  on_device_of(x, [&](void* stream) { return run_forward(s, problem.in, out, stream); });
}

void directional_scan_backward(Tensor dy, Tensor x, Tensor z, Tensor parameters, Tensor order,
                               Tensor rival, Tensor saved, int64_t states, int64_t width,
                               int64_t span, bool merge, Tensor dx, Tensor dz, Tensor dparameters,
                               Tensor scores, Tensor carry, Tensor decay) {
  const Problem problem = problem_of(x, z, parameters, order, states, width, span);
  const Sizes& s = problem.sizes;
  if (x.numel() == 0) return;
  const bool windows = rival.numel() > 0;
  Gradients grad{
      output_of("dy", dy, x, s, merge),
      merge,
      floats_of("states", saved, x, {s.batch, s.directions, s.chunks(), s.states, s.channels}),
      nullptr,
      floats_of("dx", dx, x, {s.batch, s.length, s.channels}),
      floats_of("dz", dz, x,
                {s.slabs(), s.batch, s.length, int64_t{s.directions} * s.columns()}),
      floats_of("dparameters", dparameters, x,
                {s.batch, s.directions, s.segments(), s.rows(), s.channels}),
      nullptr,
      floats_of("carry", carry, x, {s.batch, s.directions, s.segments(), s.states, s.channels}),
      floats_of("decay", decay, x, {s.batch, s.directions, s.segments(), s.channels})};
  if (windows) {
    grad.rival = data_of<int32_t>("rival", rival, x, ScalarType::Int,
                                  {s.batch, s.directions, s.positions});
    grad.scores =
        floats_of("scores", scores, x, {s.slabs(), s.batch, s.directions, s.positions});
  }
  on_device_of(x, [&](void* stream) { return run_backward(s, problem.in, grad, stream); });
}

}  // namespace
}  // namespace mmquad::cuda

STABLE_TORCH_LIBRARY_FRAGMENT(MMQUAD_LIBRARY, m) {
  m.def(
      "directional_scan_cuda(Tensor x, Tensor z, Tensor parameters, Tensor order, int states, "
      "int width, int span, bool merge, Tensor(a!) y, Tensor(b!) saved, Tensor(c!) carry, "
      "Tensor(d!) decay) -> ()");
  m.def(
      "directional_scan_cuda_backward(Tensor dy, Tensor x, Tensor z, Tensor parameters, "
      "Tensor order, Tensor rival, Tensor saved, int states, int width, int span, bool merge, "
      "Tensor(a!) dx, Tensor(b!) dz, Tensor(c!) dparameters, Tensor(d!) scores, Tensor(e!) carry, "
      "Tensor(f!) decay) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(MMQUAD_LIBRARY, MMQUAD_DISPATCH_KEY, m) {
  m.impl("directional_scan_cuda", TORCH_BOX(&mmquad::cuda::directional_scan));
  m.impl("directional_scan_cuda_backward", TORCH_BOX(&mmquad::cuda::directional_scan_backward));
}

#ifndef MMQUAD_EMULATED
// An empty module, so that `import mmquad_kernels._cuda` loads this library and thereby registers.
PyMODINIT_FUNC PyInit__cuda(void) {
  static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_cuda", nullptr, -1, nullptr};
  return PyModule_Create(&definition);
}
#endif
