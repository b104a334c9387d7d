// Schemas of the native ops. Outputs are allocated by the caller: the ops only fill them. An empty
// tensor stands for an absent one.
#include <Python.h>

#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(mmquad_kernels, m) {
  m.def(
      "directional_scan(Tensor x, Tensor z, Tensor dt_weight, Tensor dt_bias, Tensor A, "
      "Tensor D_skip, Tensor order, Tensor initial, Tensor(a!) y, Tensor(b!) states) -> ()");
  m.def(
      "directional_scan_backward(Tensor dy, Tensor x, Tensor z, Tensor dt_weight, Tensor dt_bias, "
      "Tensor A, Tensor D_skip, Tensor order, Tensor states, Tensor orders, Tensor window, "
      "Tensor(a!) dx, Tensor(b!) dz, Tensor(c!) dweight, Tensor(d!) ddt_weight, "
      "Tensor(e!) ddt_bias, Tensor(f!) dA, Tensor(g!) dD_skip, Tensor(h!) dinitial) -> ()");
  m.def(
      "selective_scan(Tensor u, Tensor delta, Tensor A, Tensor BC, Tensor D, Tensor delta_bias, "
      "Tensor initial, bool delta_softplus, Tensor(a!) y, Tensor(b!) states, Tensor(c!) last) "
      "-> ()");
  m.def(
      "selective_scan_backward(Tensor dy, Tensor dlast, Tensor u, Tensor delta, Tensor A, "
      "Tensor BC, Tensor D, Tensor delta_bias, Tensor states, bool delta_softplus, "
      "Tensor(a!) du, Tensor(b!) ddelta, Tensor(c!) dBC, Tensor(d!) dA, Tensor(e!) dD, "
      "Tensor(f!) dbias, Tensor(g!) dinitial) -> ()");
}

// An empty module, so that `import mmquad_kernels._C` loads this library and thereby registers.
PyMODINIT_FUNC PyInit__C(void) {
  static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr};
  return PyModule_Create(&definition);
}
