// Direct evaluation of equicalc's own architecture: the scripted network's function and its
// derivative by the edge vectors, without TorchScript and autograd. Layer by layer, tile by tile:
// forward keeps the features that travel between layers, backward computes everything else again.
// Nothing per edge is kept but the graph itself and the gradient. The scripted module in the same
// file is its oracle.
#pragma once

#include <memory>

#include "direct/parts.h"
#include "equicalc.h"

namespace equicalc::direct {

// Weights of the outputs in a sum that is differentiated.
struct OutputWeights {
    double energy = 1.0;      // of every e_i, where there are no
    torch::Tensor energies;   // float64 [n_local], or undefined
    torch::Tensor variables;  // float64 [n_local, K], or undefined: zeros
    bool is_last = false;     // no other sum of this forward pass will be asked for
};

class Network {
  public:
    virtual ~Network() = default;
    static std::unique_ptr<Network> make(const Parts &parts, torch::ScalarType dtype);

    virtual ForwardResult forward(const Graph &graph, HaloExchange *exchange) = 0;
    // Gradient by the edge vectors, float64 [E, 3], of the sum of the outputs with these weights.
    // May be called again for the same forward pass, until one is the last: it writes gradients by
    // features over the features and takes half the memory.
    virtual torch::Tensor backward(const OutputWeights &weights, HaloExchange *exchange) = 0;
};

}  // namespace equicalc::direct
