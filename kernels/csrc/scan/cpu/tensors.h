// Checked access to tensors. Outputs come from the caller, so a wrong one would be written beyond.
#pragma once

#include <cstdint>
#include <initializer_list>

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include "float16.h"

namespace mmquad {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename T>
constexpr ScalarType scalar_type_of() {
  return sizeof(T) == sizeof(double) ? ScalarType::Double : ScalarType::Float;
}

// An empty tensor stands for an absent one.
template <typename T>
const T* read(const Tensor& tensor) {
  return tensor.numel() == 0 ? nullptr : static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T>
T* write(const Tensor& tensor) {
  return tensor.numel() == 0 ? nullptr : static_cast<T*>(tensor.mutable_data_ptr());
}

inline void check_shape(
    const char* name, const Tensor& tensor, std::initializer_list<int64_t> expected) {
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

template <typename T>
void check_if_present(
    const char* name, const Tensor& tensor, std::initializer_list<int64_t> expected) {
  if (tensor.numel() > 0) check<T>(name, tensor, expected);
}

// Calls function(X{}, T{}) for the dtype of the tokens.
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

}  // namespace mmquad
