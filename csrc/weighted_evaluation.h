// Forward once, then gradients of any weighted sums of the outputs: for graphs in which only some
// rows count, and for moments of the energies of atoms. One rank (or a graph with its own copies of
// all that is needed), always through the scripted module.
#pragma once

#include "equicalc.h"

namespace equicalc {

class WeightedEvaluation {
  public:
    explicit WeightedEvaluation(std::shared_ptr<Model> model);

    // n_local of the graph must be all of its rows. Keeps the graph until the next call or clear().
    ForwardResult forward(const Graph &graph);
    // d/d(edge vectors) of sum_i energy_weight_i e_i + sum_ik variable_weight_ik variable_ik,
    // float64 [E, 3] on the CPU. Weights: float64 [n_local], and [n_local, K] or undefined.
    torch::Tensor gradient(const torch::Tensor &energy_weights,
                           const torch::Tensor &variable_weights);
    void clear();

  private:
    std::shared_ptr<Model> model_;
    torch::Tensor edge_vectors_, energies_, variables_;
};

}  // namespace equicalc
