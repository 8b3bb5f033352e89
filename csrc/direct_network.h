// Direct evaluation of equicalc's own architecture: the scripted network's function and its
// derivative by the edge vectors, without TorchScript and autograd. Layer by layer, tile by tile:
// forward keeps the features that travel between layers, backward computes everything else again.
// Nothing per edge is kept but the graph itself and the gradient. The scripted module in the same
// file is its oracle.
#pragma once

#include <memory>

#include "direct_parts.h"
#include "equicalc.h"

namespace equicalc::direct {

class Network {
  public:
    virtual ~Network() = default;
    static std::unique_ptr<Network> make(const Parts &parts, torch::ScalarType dtype);

    virtual ForwardResult forward(const Graph &graph, HaloExchange *exchange) = 0;
    // dE/d(edge vectors), float64 [E, 3], of energy_factor sum e_i + sum gradient_ik variable_ik;
    // gradient: float64 [n_local, K], or undefined. May be called again for the same forward pass.
    virtual torch::Tensor backward(double energy_factor, const torch::Tensor &gradient,
                                   HaloExchange *exchange) = 0;
};

}  // namespace equicalc::direct
