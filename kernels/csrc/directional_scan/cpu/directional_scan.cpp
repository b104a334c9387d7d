// The directional scan on the CPU: checks tensors and says where their rows are.
#include <atomic>
#include <vector>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "../../scan/cpu/kernel.h"
#include "../../scan/cpu/tensors.h"

namespace mmquad {
namespace {

// Rows of [B, L, D], shared by all directions, or of [B, K, L, D], [K, B, L, D].
template <typename T>
Rows<T> shared_rows(T* data, const Shape& s) {
  return {data, s.length * s.channels, 0, s.channels};
}

template <typename T>
Rows<T> rows_by_sample(T* data, const Shape& s) {
  const int64_t size = s.length * s.channels;
  return {data, s.directions * size, size, s.channels};
}

template <typename T>
Rows<T> rows_by_direction(T* data, const Shape& s) {
  const int64_t size = s.length * s.channels;
  return {data, size, s.batch * size, s.channels};
}

// Orders are addresses, and a row of the result that none of them names would stay unwritten. To
// look at them costs a nanosecond each, where the scan takes a hundred and more.
void check_order(const char* name, const Tensor& order, const Shape& s, int64_t sets) {
  check_shape(name, order, {sets, s.directions, s.positions});
  STD_TORCH_CHECK(order.scalar_type() == ScalarType::Int, "mmquad_kernels: ", name, " is int32");
  const int32_t* data = read<int32_t>(order);
  std::atomic<bool> fits{true};
  const auto look = [&](int64_t begin, int64_t end) {
    std::vector<char> seen(s.length);
    for (int64_t row = begin; row < end; ++row) {
      seen.assign(s.length, false);
      int64_t missing = s.length;
      for (int64_t p = 0; p < s.positions; ++p) {
        const int64_t t = data[row * s.positions + p];
        if (t == -1) continue;
        if (t < 0 || t >= s.length || seen[t]) {
          missing = -1;
          break;
        }
        seen[t] = true;
        --missing;
      }
      if (missing != 0) fits = false;
    }
  };
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, s.positions));
  torch::stable::parallel_for(0, sets * s.directions, grain, look);
  STD_TORCH_CHECK(fits, "mmquad_kernels: each direction of ", name, " must hold every token from ",
                  "0 to ", s.length - 1, " once, and -1 at its other positions");
}

void check_window(const Tensor& window, const Shape& s, int64_t windows) {
  check_shape("window", window, {s.length});
  STD_TORCH_CHECK(window.scalar_type() == ScalarType::Int, "mmquad_kernels: window is int32");
  const int32_t* data = read<int32_t>(window);
  for (int64_t t = 0; t < s.length; ++t) {
    STD_TORCH_CHECK(data[t] >= 0 && data[t] < windows, "mmquad_kernels: window must be from 0 to ",
                    windows - 1, ", got ", data[t]);
  }
}

template <typename X, typename T>
Inputs<X, T> inputs_of(const Tensor& x, const Tensor& z, const Tensor& dt_weight,
                       const Tensor& dt_bias, const Tensor& A, const Tensor& skip,
                       const Tensor& order) {
  STD_TORCH_CHECK(x.dim() == 3 && dt_weight.dim() == 3 && A.dim() == 3 && order.dim() == 3,
                  "mmquad_kernels: x, dt_weight, A and order have three axes");
  Shape s{x.size(0), x.size(1), order.size(2),     x.size(2),
          A.size(0), A.size(2), dt_weight.size(2), order.size(0)};
  check_shape("x", x, {s.batch, s.length, s.channels});
  check<T>("z", z, {s.batch, s.length, s.directions * s.columns()});
  check<T>("dt_weight", dt_weight, {s.directions, s.channels, s.ranks});
  check<T>("dt_bias", dt_bias, {s.directions, s.channels});
  check<T>("A", A, {s.directions, s.channels, s.states});
  check<T>("D_skip", skip, {s.directions, s.channels});
  STD_TORCH_CHECK(s.orders == 1 || s.orders == s.batch, "mmquad_kernels: order has 1 or B rows");
  check_order("order", order, s, s.orders);
  Inputs<X, T> in{};
  in.shape = s;
  in.x = shared_rows(read<X>(x), s);
  in.z = read<T>(z);
  in.dt_weight = read<T>(dt_weight);
  in.dt_bias = read<T>(dt_bias);
  in.A = read<T>(A);
  in.skip = read<T>(skip);
  in.order = read<int32_t>(order);
  in.softplus = true;
  return in;
}

void directional_scan(Tensor x, Tensor z, Tensor dt_weight, Tensor dt_bias, Tensor A, Tensor skip,
                      Tensor order, Tensor initial, Tensor y, Tensor states) {
  dispatch(x, [&](auto x_type, auto type) {
    using X = decltype(x_type);
    using T = decltype(type);
    Inputs<X, T> in = inputs_of<X, T>(x, z, dt_weight, dt_bias, A, skip, order);
    const Shape& s = in.shape;
    check_if_present<T>("initial", initial, {s.batch, s.directions, s.states, s.channels});
    in.initial = read<T>(initial);
    const bool merge = y.dim() == 3;
    if (merge) {
      check<T>("y", y, {s.batch, s.length, s.channels});
    } else {
      check<T>("y", y, {s.batch, s.directions, s.length, s.channels});
    }
    check_if_present<T>("states", states,
                        {s.batch, s.directions, s.chunks(), s.states, s.channels});
    T* data = write<T>(y);
    run_forward(in, Outputs<T>{merge ? shared_rows(data, s) : rows_by_sample(data, s),
                               write<T>(states), nullptr});
  });
}

void directional_scan_backward(Tensor dy, Tensor x, Tensor z, Tensor dt_weight, Tensor dt_bias,
                               Tensor A, Tensor skip, Tensor order, Tensor states, Tensor orders,
                               Tensor window, Tensor dx, Tensor dz, Tensor dweight,
                               Tensor ddt_weight, Tensor ddt_bias, Tensor dA, Tensor dskip,
                               Tensor dinitial) {
  dispatch(x, [&](auto x_type, auto type) {
    using X = decltype(x_type);
    using T = decltype(type);
    const Inputs<X, T> in = inputs_of<X, T>(x, z, dt_weight, dt_bias, A, skip, order);
    const Shape& s = in.shape;
    const int64_t slots = dz.size(0), windows = dweight.size(3);
    const bool merged = dy.dim() == 3, together = dx.dim() == 3;
    if (merged) {
      check<T>("dy", dy, {s.batch, s.length, s.channels});
    } else {
      check<T>("dy", dy, {s.batch, s.directions, s.length, s.channels});
    }
    if (together) {
      check<T>("dx", dx, {s.batch, s.length, s.channels});
    } else {
      check<T>("dx", dx, {s.directions, s.batch, s.length, s.channels});
    }
    STD_TORCH_CHECK(slots >= 1 && s.groups() % slots == 0,
                    "mmquad_kernels: dz must have a number of slots that divides ", s.groups());
    check<T>("states", states, {s.batch, s.directions, s.chunks(), s.states, s.channels});
    check<T>("dz", dz, {slots, s.batch, s.length, s.directions * s.columns()});
    check<T>("dweight", dweight, {s.directions, s.groups(), s.batch, windows});
    check<T>("ddt_weight", ddt_weight, {s.batch, s.directions, s.channels, s.ranks});
    check<T>("ddt_bias", ddt_bias, {s.batch, s.directions, s.channels});
    check<T>("dA", dA, {s.batch, s.directions, s.channels, s.states});
    check<T>("dD_skip", dskip, {s.batch, s.directions, s.channels});
    check_if_present<T>("dinitial", dinitial, {s.batch, s.directions, s.states, s.channels});
    if (windows > 0) {
      STD_TORCH_CHECK(s.positions == s.length, "mmquad_kernels: windows have no empty positions");
      check_order("orders", orders, s, 2);
      check_window(window, s, windows);
    }
    Gradients<T> grad{};
    grad.dy = merged ? shared_rows(read<T>(dy), s) : rows_by_sample(read<T>(dy), s);
    grad.states = read<T>(states);
    grad.orders = windows > 0 ? read<int32_t>(orders) : nullptr;
    grad.window = windows > 0 ? read<int32_t>(window) : nullptr;
    grad.windows = windows;
    grad.slots = slots;
    grad.dx = together ? shared_rows(write<T>(dx), s) : rows_by_direction(write<T>(dx), s);
    grad.dz = write<T>(dz);
    grad.dweight = write<T>(dweight);
    grad.ddt_weight = write<T>(ddt_weight);
    grad.ddt_bias = write<T>(ddt_bias);
    grad.dA = write<T>(dA);
    grad.dskip = write<T>(dskip);
    grad.dinitial = write<T>(dinitial);
    run_backward(in, grad);
  });
}

}  // namespace
}  // namespace mmquad

STABLE_TORCH_LIBRARY_IMPL(mmquad_kernels, CPU, m) {
  m.impl("directional_scan", TORCH_BOX(&mmquad::directional_scan));
  m.impl("directional_scan_backward", TORCH_BOX(&mmquad::directional_scan_backward));
}
