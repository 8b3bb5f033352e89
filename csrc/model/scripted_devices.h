// Scripted networks on devices other than the one that they were written for.
#pragma once

#include <torch/csrc/jit/api/module.h>

namespace equicalc {

// Files ask whether tensors are on a CUDA device, and what was written by a build without operators
// for them has the answer in it that torch expressions have to do: they are answered no, and use
// the operators.
void use_cuda_kernels(const torch::jit::Module &module);

}  // namespace equicalc
