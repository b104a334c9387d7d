// Checked access to tensors. Outputs come from the caller, so a wrong one would be written beyond.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#ifdef __linux__
#include <sys/mman.h>
#endif

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

// Fresh memory of this size comes from the system in pages of 4 KB, each of which interrupts the
// kernel at its first touch: a quarter of a long forward. Pages of 2 MB make that negligible.
inline void ask_for_huge_pages(void* data, size_t bytes) {
#ifdef __linux__
  constexpr uintptr_t page = uintptr_t{2} << 20;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

// Memory to be overwritten.
template <typename T>
T* write(const Tensor& tensor) {
  if (tensor.numel() == 0) return nullptr;
  T* data = static_cast<T*>(tensor.mutable_data_ptr());
  ask_for_huge_pages(data, tensor.numel() * sizeof(T));
  return data;
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
