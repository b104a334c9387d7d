// CUDA's execution model on the host, for running the kernels' own source without a GPU.
//
// Blocks run one after another, the threads of a block as coroutines that stop at barriers and warp
// exchanges. This checks arithmetic, indices, and that all threads meet at the same barriers; with
// MMQUAD_EMULATED_ORDER=reversed lanes and warps take turns the other way round, so that a result
// which needs a missing barrier changes. It is no device: memory is sequentially consistent, a
// block has the machine to itself, and the rounding of exp2 is the host's.
#pragma once

#include <dlfcn.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#define __global__
#define __launch_bounds__(...)
#define MMQUAD_DEVICE inline
#define MMQUAD_SHARED(name) float* const name = mmquad::emulation::shared_memory.data()
#define MMQUAD_LAUNCH(kernel, blocks, threads, bytes, stream, ...)          \
  if (mmquad::emulation::runner != nullptr) {                               \
    mmquad::emulation::pass_on((const void*)kernel, blocks, threads, bytes, __VA_ARGS__); \
  } else {                                                                  \
    mmquad::emulation::launch(blocks, threads, bytes, [&] { kernel(__VA_ARGS__); });      \
  }

struct float4 {
  float x, y, z, w;
};
struct Index {
  unsigned x;
};
using cudaError_t = int;
using cudaStream_t = void*;
inline int cudaGetLastError() { return 0; }
inline const char* cudaGetErrorString(int) { return "no error"; }

inline Index blockIdx, threadIdx, blockDim;
using std::min;

namespace mmquad::emulation {

// Runs kernels instead of this file, if it is set: by name, with the addresses of their arguments.
using Runner = void (*)(
    const char* kernel, int64_t blocks, int threads, int64_t bytes, const void* const* arguments);
inline Runner runner = nullptr;

template <typename... Arguments>
void pass_on(
    const void* kernel, int64_t blocks, int threads, int64_t bytes, const Arguments&... arguments) {
  const void* const addresses[] = {&arguments...};
  Dl_info info;
  if (dladdr(kernel, &info) == 0 || info.dli_sname == nullptr) {
    throw std::runtime_error("emulation: a kernel without a name");
  }
  runner(info.dli_sname, blocks, threads, bytes, addresses);
}

enum class Stop { none, barrier, exchange, end };

struct Thread {
  static constexpr size_t kStack = 1 << 16;
  ucontext_t start;
  // Where it goes on; a context switch would ask the kernel for the signal mask every time.
  jmp_buf resume;
  bool started;
  std::unique_ptr<char[]> stack{new char[kStack]};
  Stop stop;
  // A lane may write its next value before a slower one has read the last.
  float offered[2];
  int exchanges;
};

inline std::vector<float> shared_memory;
inline std::vector<Thread> threads;
inline jmp_buf scheduler;
inline const std::function<void()>* body;

inline void pause(Stop stop) {
  Thread& self = threads[threadIdx.x];
  self.stop = stop;
  if (_setjmp(self.resume) == 0) _longjmp(scheduler, 1);
}

inline void thread_main() {
  (*body)();
  threads[threadIdx.x].stop = Stop::end;
  _longjmp(scheduler, 1);
}

inline void resume(unsigned i) {
  threadIdx.x = i;
  Thread& thread = threads[i];
  thread.stop = Stop::none;
  if (_setjmp(scheduler) != 0) return;
  if (thread.started) _longjmp(thread.resume, 1);
  thread.started = true;
  setcontext(&thread.start);
}

inline std::vector<unsigned> turns(unsigned first, unsigned count, bool reversed) {
  std::vector<unsigned> order(count);
  for (unsigned i = 0; i < count; ++i) order[i] = first + (reversed ? count - 1 - i : i);
  return order;
}

// Runs the given threads until all have stopped, and returns at what.
inline Stop run_together(const std::vector<unsigned>& order) {
  for (unsigned i : order) resume(i);
  for (unsigned i : order) {
    if (threads[i].stop != threads[order[0]].stop) {
      throw std::runtime_error("emulation: threads " + std::to_string(order[0]) + " and " +
                               std::to_string(i) + " stop at different barriers or exchanges");
    }
  }
  return threads[order[0]].stop;
}

inline void run_block(unsigned count, bool reversed) {
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = threads[i];
    thread.exchanges = 0;
    thread.started = false;
    getcontext(&thread.start);
    thread.start.uc_stack.ss_sp = thread.stack.get();
    thread.start.uc_stack.ss_size = Thread::kStack;
    thread.start.uc_link = nullptr;
    makecontext(&thread.start, thread_main, 0);
  }
  const unsigned warp_size = 32;
  Stop stop = Stop::none;
  while (stop != Stop::end) {
    bool first = true;
    for (unsigned warp : turns(0, count / warp_size, reversed)) {
      const std::vector<unsigned> lanes = turns(warp * warp_size, warp_size, reversed);
      Stop reached;
      do reached = run_together(lanes);
      while (reached == Stop::exchange);
      if (!first && reached != stop) {
        throw std::runtime_error("emulation: warps stop at different barriers");
      }
      stop = reached;
      first = false;
    }
  }
}

inline void launch(
    int64_t blocks, int count, int64_t bytes, const std::function<void()>& kernel) {
  if (count % 32 != 0 || count > 1024 || blocks < 1 || blocks > 0x7fffffff || bytes > 48 << 10) {
    throw std::runtime_error("emulation: a device would refuse this launch");
  }
  const char* order = std::getenv("MMQUAD_EMULATED_ORDER");
  const bool reversed = order != nullptr && std::strcmp(order, "reversed") == 0;
  const size_t floats = bytes / sizeof(float), guard = 4096;
  const float marker = -12345.0f;
  if (threads.size() < static_cast<size_t>(count)) threads = std::vector<Thread>(count);
  body = &kernel;
  blockDim.x = count;
  for (int64_t block = 0; block < blocks; ++block) {
    blockIdx.x = static_cast<unsigned>(block);
    shared_memory.assign(floats, std::numeric_limits<float>::quiet_NaN());
    shared_memory.resize(floats + guard, marker);
    run_block(count, reversed);
    for (size_t i = floats; i < floats + guard; ++i) {
      if (shared_memory[i] != marker) throw std::runtime_error("emulation: shared memory overrun");
    }
  }
}

}  // namespace mmquad::emulation

inline void __syncthreads() { mmquad::emulation::pause(mmquad::emulation::Stop::barrier); }

inline float __shfl_xor_sync(unsigned, float value, int mask) {
  using namespace mmquad::emulation;
  Thread& self = threads[threadIdx.x];
  const int slot = self.exchanges++ % 2;
  self.offered[slot] = value;
  pause(Stop::exchange);
  return threads[threadIdx.x ^ static_cast<unsigned>(mask)].offered[slot];
}

namespace mmquad::cuda {

inline float exp2_fast(float x) { return std::exp2(x); }

inline float widen_half(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const float sign = bits >> 15 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  return sign * (exponent ? std::ldexp(1024.0f + fraction, exponent - 25)
                          : std::ldexp(static_cast<float>(fraction), -24));
}

inline float widen_bfloat16(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

}  // namespace mmquad::cuda

extern "C" inline __attribute__((used)) void mmquad_emulation_run_by(mmquad::emulation::Runner runner) {
  mmquad::emulation::runner = runner;
}
