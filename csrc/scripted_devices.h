// Scripted networks on devices other than the one that they were written for.
#pragma once

#include <torch/csrc/jit/api/module.h>

namespace equicalc {

// Files written before there were operators for CUDA devices ask whether tensors are there, and
// then go through torch expressions: they are answered no, and use the operators.
void use_cuda_kernels(const torch::jit::Module &module);

}  // namespace equicalc
