// The host's entry points; the stream is a cudaStream_t. Return what the runtime says, 0: no error.
#pragma once

#include "problem.h"

namespace mmquad::cuda {

int run_forward(const Sizes& s, const Inputs& in, const Outputs& out, void* stream);
int run_backward(const Sizes& s, const Inputs& in, const Gradients& grad, void* stream);

// Readable text of an error number.
const char* error_text(int error);

}  // namespace mmquad::cuda
