// Checks tensors, chooses the instruction set, and spreads the work over PyTorch's threads.
#include <cstdlib>
#include <cstring>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include "float16.h"
#include "kernel.h"

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

namespace mmquad {
namespace {

enum class Level { baseline, avx2, avx512 };

// MMQUAD_CPU_LEVEL (baseline, avx2, avx512) lowers the level, for tests and comparisons.
Level instruction_level() {
#ifdef MMQUAD_X86_LEVELS
  Level level = Level::baseline;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) level = Level::avx2;
  if (level == Level::avx2 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl")) {
    level = Level::avx512;
  }
  const char* wanted = std::getenv("MMQUAD_CPU_LEVEL");
  if (wanted != nullptr && std::strcmp(wanted, "baseline") == 0) return Level::baseline;
  if (wanted != nullptr && std::strcmp(wanted, "avx2") == 0) return std::min(level, Level::avx2);
  return level;
#else
  return Level::baseline;
#endif
}

template <typename X, typename T>
void run_forward(const Inputs<X, T>& in, const Outputs<T>& out) {
  const Level level = instruction_level();
  torch::stable::parallel_for(0, in.shape.batch * in.shape.blocks(), 1, [&](int64_t begin, int64_t end) {
#ifdef MMQUAD_X86_LEVELS
    if (level == Level::avx512) return avx512::forward(in, out, begin, end);
    if (level == Level::avx2) return avx2::forward(in, out, begin, end);
#endif
    baseline::forward(in, out, begin, end);
  });
}

template <typename X, typename T>
void run_backward(const Inputs<X, T>& in, const Gradients<T>& grad) {
  const Level level = instruction_level();
  torch::stable::parallel_for(0, in.shape.batch * grad.groups, 1, [&](int64_t begin, int64_t end) {
#ifdef MMQUAD_X86_LEVELS
    if (level == Level::avx512) return avx512::backward(in, grad, begin, end);
    if (level == Level::avx2) return avx2::backward(in, grad, begin, end);
#endif
    baseline::backward(in, grad, begin, end);
  });
}

template <typename T>
constexpr ScalarType scalar_type_of() {
  return sizeof(T) == sizeof(double) ? ScalarType::Double : ScalarType::Float;
}

template <typename T>
const T* read(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T>
T* write(const Tensor& tensor) {
  return tensor.numel() == 0 ? nullptr : static_cast<T*>(tensor.mutable_data_ptr());
}

void check_shape(const char* name, const Tensor& tensor, std::initializer_list<int64_t> expected) {
  bool fits = tensor.is_contiguous() && tensor.is_cpu() &&
              tensor.dim() == static_cast<int64_t>(expected.size());
  int64_t i = 0;
  for (int64_t size : expected) {
    fits = fits && tensor.size(i) == size;
    ++i;
  }
  STD_TORCH_CHECK(fits, "mmquad_kernels: ", name, " has a wrong shape, layout or device");
}

template <typename T>
void check(const char* name, const Tensor& tensor, std::initializer_list<int64_t> expected) {
  check_shape(name, tensor, expected);
  STD_TORCH_CHECK(tensor.scalar_type() == scalar_type_of<T>(), "mmquad_kernels: ", name,
                  " has a wrong dtype");
}

// order may be read out of bounds if it is not a permutation, so its values are the caller's duty.
template <typename X, typename T>
Inputs<X, T> inputs_of(const Tensor& x, const Tensor& z, const Tensor& dt_weight,
                       const Tensor& dt_bias, const Tensor& A, const Tensor& skip,
                       const Tensor& order) {
  STD_TORCH_CHECK(x.dim() == 3 && dt_weight.dim() == 3 && A.dim() == 3 && order.dim() == 3,
                  "mmquad_kernels: x, dt_weight, A and order have three axes");
  Shape s{x.size(0), x.size(1), x.size(2), A.size(0), A.size(2), dt_weight.size(2), order.size(0)};
  check_shape("x", x, {s.batch, s.length, s.channels});
  check<T>("z", z, {s.batch, s.length, s.directions * s.columns()});
  check<T>("dt_weight", dt_weight, {s.directions, s.channels, s.ranks});
  check<T>("dt_bias", dt_bias, {s.directions, s.channels});
  check<T>("A", A, {s.directions, s.channels, s.states});
  check<T>("D_skip", skip, {s.directions, s.channels});
  STD_TORCH_CHECK(s.orders == 1 || s.orders == s.batch, "mmquad_kernels: order has 1 or B rows");
  check_shape("order", order, {s.orders, s.directions, s.length});
  STD_TORCH_CHECK(order.scalar_type() == ScalarType::Long, "mmquad_kernels: order is int64");
  return {s, read<X>(x), read<T>(z), read<T>(dt_weight), read<T>(dt_bias), read<T>(A),
          read<T>(skip), read<int64_t>(order)};
}

// Calls function.operator()<X, T>() for the dtype of the tokens.
template <typename Function>
void dispatch(const Tensor& x, const Function& function) {
  switch (x.scalar_type()) {
    case ScalarType::Double:
      return function(double{}, double{});
    case ScalarType::Float:
      return function(float{}, float{});
    case ScalarType::BFloat16:
      return function(BFloat16{}, float{});
    case ScalarType::Half:
      return function(Half{}, float{});
    default:
      STD_TORCH_CHECK(false, "mmquad_kernels: x must be float64, float32, bfloat16 or float16");
  }
}

void directional_scan(Tensor x, Tensor z, Tensor dt_weight, Tensor dt_bias, Tensor A, Tensor skip,
                      Tensor order, Tensor y, Tensor states) {
  dispatch(x, [&](auto x_type, auto type) {
    using X = decltype(x_type);
    using T = decltype(type);
    const Inputs<X, T> in = inputs_of<X, T>(x, z, dt_weight, dt_bias, A, skip, order);
    const Shape& s = in.shape;
    check<T>("y", y, {s.batch, s.length, s.channels});
    if (states.numel() > 0) {
      check<T>("states", states, {s.batch, s.directions, s.chunks(), s.states, s.channels});
    }
    run_forward(in, Outputs<T>{write<T>(y), write<T>(states)});
  });
}

void directional_scan_backward(Tensor dy, Tensor x, Tensor z, Tensor dt_weight, Tensor dt_bias,
                               Tensor A, Tensor skip, Tensor order, Tensor states, Tensor orders,
                               Tensor window, Tensor dx, Tensor dz, Tensor dweight,
                               Tensor ddt_weight, Tensor ddt_bias, Tensor dA, Tensor dskip) {
  dispatch(x, [&](auto x_type, auto type) {
    using X = decltype(x_type);
    using T = decltype(type);
    const Inputs<X, T> in = inputs_of<X, T>(x, z, dt_weight, dt_bias, A, skip, order);
    const Shape& s = in.shape;
    const int64_t groups = dz.size(0), windows = dweight.size(2);
    check<T>("dy", dy, {s.batch, s.length, s.channels});
    check<T>("states", states, {s.batch, s.directions, s.chunks(), s.states, s.channels});
    check<T>("dx", dx, {s.batch, s.length, s.channels});
    check<T>("dz", dz, {groups, s.batch, s.length, s.directions * s.columns()});
    check<T>("dweight", dweight, {groups, s.batch, windows});
    check<T>("ddt_weight", ddt_weight, {s.batch, s.directions, s.channels, s.ranks});
    check<T>("ddt_bias", ddt_bias, {s.batch, s.directions, s.channels});
    check<T>("dA", dA, {s.batch, s.directions, s.channels, s.states});
    check<T>("dD_skip", dskip, {s.batch, s.directions, s.channels});
    if (windows > 0) {
      check_shape("orders", orders, {2, s.directions, s.length});
      check_shape("window", window, {s.length});
    }
    run_backward(in, Gradients<T>{read<T>(dy), read<T>(states),
                                  windows > 0 ? read<int64_t>(orders) : nullptr,
                                  windows > 0 ? read<int64_t>(window) : nullptr, windows, groups,
                                  write<T>(dx), write<T>(dz), write<T>(dweight),
                                  write<T>(ddt_weight), write<T>(ddt_bias), write<T>(dA),
                                  write<T>(dskip)});
  });
}

}  // namespace
}  // namespace mmquad

STABLE_TORCH_LIBRARY_IMPL(mmquad_kernels, CPU, m) {
  m.impl("directional_scan", TORCH_BOX(&mmquad::directional_scan));
  m.impl("directional_scan_backward", TORCH_BOX(&mmquad::directional_scan_backward));
}
