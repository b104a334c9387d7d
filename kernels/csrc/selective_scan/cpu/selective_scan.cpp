// The selective scan on the CPU: its G groups of channels are directions that lie side by side.
#include <torch/csrc/stable/library.h>

#include "../../scan/cpu/kernel.h"
#include "../../scan/cpu/tensors.h"

namespace mmquad {
namespace {

// Rows of [B, L, K, D].
template <typename T>
Rows<T> rows_of(T* data, const Shape& s) {
  const int64_t row = s.directions * s.channels;
  return {data, s.length * row, s.channels, row};
}

template <typename T>
Inputs<T, T> inputs_of(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& BC,
                       const Tensor& skip, const Tensor& bias, bool softplus) {
  STD_TORCH_CHECK(u.dim() == 3 && A.dim() == 3, "mmquad_kernels: u and A have three axes");
  Shape s{u.size(0), u.size(1), u.size(1), A.size(1), A.size(0), A.size(2), 0, 1};
  check<T>("u", u, {s.batch, s.length, s.directions * s.channels});
  check<T>("delta", delta, {s.batch, s.length, s.directions * s.channels});
  check<T>("A", A, {s.directions, s.channels, s.states});
  check<T>("BC", BC, {s.batch, s.length, s.directions * s.columns()});
  check_if_present<T>("D", skip, {s.directions * s.channels});
  check_if_present<T>("delta_bias", bias, {s.directions * s.channels});
  Inputs<T, T> in{};
  in.shape = s;
  in.x = rows_of(read<T>(u), s);
  in.raw = rows_of(read<T>(delta), s);
  in.z = read<T>(BC);
  in.dt_bias = read<T>(bias);
  in.A = read<T>(A);
  in.skip = read<T>(skip);
  in.softplus = softplus;
  return in;
}

// Calls function(T{}) for the dtype that everything has.
template <typename Function>
void dispatch_wide(const Tensor& u, const Function& function) {
  if (u.scalar_type() == ScalarType::Double) return function(double{});
  function(float{});  // any other dtype is refused by the checks
}

void selective_scan(Tensor u, Tensor delta, Tensor A, Tensor BC, Tensor skip, Tensor bias,
                    Tensor initial, bool softplus, Tensor y, Tensor states, Tensor last) {
  dispatch_wide(u, [&](auto type) {
    using T = decltype(type);
    Inputs<T, T> in = inputs_of<T>(u, delta, A, BC, skip, bias, softplus);
    const Shape& s = in.shape;
    check_if_present<T>("initial", initial, {s.batch, s.directions, s.states, s.channels});
    in.initial = read<T>(initial);
    check_if_present<T>("y", y, {s.batch, s.length, s.directions * s.channels});
    check_if_present<T>("states", states,
                        {s.batch, s.directions, s.chunks(), s.states, s.channels});
    check_if_present<T>("last", last, {s.batch, s.directions, s.states, s.channels});
    run_forward(in, Outputs<T>{rows_of(write<T>(y), s), write<T>(states), write<T>(last)});
  });
}

void selective_scan_backward(Tensor dy, Tensor dlast, Tensor u, Tensor delta, Tensor A, Tensor BC,
                             Tensor skip, Tensor bias, Tensor states, bool softplus, Tensor du,
                             Tensor ddelta, Tensor dBC, Tensor dA, Tensor dskip, Tensor dbias,
                             Tensor dinitial) {
  dispatch_wide(u, [&](auto type) {
    using T = decltype(type);
    const Inputs<T, T> in = inputs_of<T>(u, delta, A, BC, skip, bias, softplus);
    const Shape& s = in.shape;
    const int64_t slots = dBC.size(0), width = s.directions * s.channels;
    STD_TORCH_CHECK(slots >= 1 && s.groups() % slots == 0,
                    "mmquad_kernels: dBC must have a number of slots that divides ", s.groups());
    check<T>("dy", dy, {s.batch, s.length, width});
    check<T>("dlast", dlast, {s.batch, s.directions, s.states, s.channels});
    check<T>("states", states, {s.batch, s.directions, s.chunks(), s.states, s.channels});
    check<T>("du", du, {s.batch, s.length, width});
    check<T>("ddelta", ddelta, {s.batch, s.length, width});
    check<T>("dBC", dBC, {slots, s.batch, s.length, s.directions * s.columns()});
    check<T>("dA", dA, {s.batch, s.directions, s.channels, s.states});
    check<T>("dD", dskip, {s.batch, width});
    check<T>("dbias", dbias, {s.batch, width});
    check_if_present<T>("dinitial", dinitial, {s.batch, s.directions, s.states, s.channels});
    Gradients<T> grad{};
    grad.dy = rows_of(read<T>(dy), s);
    grad.states = read<T>(states);
    grad.dlast = read<T>(dlast);
    grad.slots = slots;
    grad.dx = rows_of(write<T>(du), s);
    grad.draw = rows_of(write<T>(ddelta), s);
    grad.dz = write<T>(dBC);
    grad.ddt_bias = write<T>(dbias);
    grad.dA = write<T>(dA);
    grad.dskip = write<T>(dskip);
    grad.dinitial = write<T>(dinitial);
    run_backward(in, grad);
  });
}

}  // namespace
}  // namespace mmquad

STABLE_TORCH_LIBRARY_IMPL(mmquad_kernels, CPU, m) {
  m.impl("selective_scan", TORCH_BOX(&mmquad::selective_scan));
  m.impl("selective_scan_backward", TORCH_BOX(&mmquad::selective_scan_backward));
}
