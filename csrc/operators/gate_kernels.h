// The gate of equicalc.nn.gate: scalars through an activation, other features times gates.
#pragma once

#include <cstdint>
#include <vector>

namespace equicalc::kernels {

enum class Activation : int64_t { silu = 0, tanh = 1 };

// Scalars in the input and, at the same place, in the output.
struct GateScalars {
    int64_t start, size;
    Activation activation;
    double factor;
};

// A block of features with its gate scalars; places in rows of input and output.
struct GatedBlock {
    int64_t gate, in, out, n_components, n_channels;
};

struct GateLayout {
    std::vector<GateScalars> scalars;
    std::vector<GatedBlock> blocks;
    Activation activation;  // of gates
    double factor;
    int64_t width_in, width_out;
};

// Rows of n atoms.
void gate(const GateLayout &, int64_t n_atoms, const float *in, float *out);
void gate(const GateLayout &, int64_t n_atoms, const double *in, double *out);
void gate_backward(const GateLayout &, int64_t n_atoms, const float *in, const float *grad_out,
                   float *grad_in);
void gate_backward(const GateLayout &, int64_t n_atoms, const double *in, const double *grad_out,
                   double *grad_in);

}  // namespace equicalc::kernels
