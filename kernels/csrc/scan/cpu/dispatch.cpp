// Chooses the instruction set and spreads the work over PyTorch's threads.
#include <cstdlib>
#include <cstring>

#include <torch/csrc/stable/ops.h>

#include "float16.h"
#include "kernel.h"

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

}  // namespace

template <typename X, typename T>
void run_forward(const Inputs<X, T>& in, const Outputs<T>& out) {
  [[maybe_unused]] const Level level = instruction_level();
  const int64_t tasks = forward_tasks(in.shape, out);
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
#ifdef MMQUAD_X86_LEVELS
    if (level == Level::avx512) return avx512::forward(in, out, begin, end);
    if (level == Level::avx2) return avx2::forward(in, out, begin, end);
#endif
    baseline::forward(in, out, begin, end);
  });
}

template <typename X, typename T>
void run_backward(const Inputs<X, T>& in, const Gradients<T>& grad) {
  [[maybe_unused]] const Level level = instruction_level();
  const int64_t tasks = backward_tasks(in.shape, grad);
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
#ifdef MMQUAD_X86_LEVELS
    if (level == Level::avx512) return avx512::backward(in, grad, begin, end);
    if (level == Level::avx2) return avx2::backward(in, grad, begin, end);
#endif
    baseline::backward(in, grad, begin, end);
  });
}

#define MMQUAD_INSTANTIATE(X, T)                                         \
  template void run_forward<X, T>(const Inputs<X, T>&, const Outputs<T>&); \
  template void run_backward<X, T>(const Inputs<X, T>&, const Gradients<T>&);
MMQUAD_INSTANTIATE(double, double)
MMQUAD_INSTANTIATE(float, float)
MMQUAD_INSTANTIATE(BFloat16, float)
MMQUAD_INSTANTIATE(Half, float)
#undef MMQUAD_INSTANTIATE

}  // namespace mmquad
