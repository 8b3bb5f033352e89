// A network on a device whose steps are recorded: for a number of atoms, and room for edges that
// some more atoms, which nobody sees, fill with edges to themselves. Two recordings, forward and
// backward, with the charges of the atoms found in between.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "equicalc.h"
#include "recording.h"

namespace equicalc {

class RecordedNetwork {
  public:
    // Energies [n_local] and charge variables [n_local, K] from species, edge vectors and index.
    using Network = std::function<std::pair<torch::Tensor, torch::Tensor>(
        const torch::Tensor &species, const torch::Tensor &edge_vectors,
        const torch::Tensor &edge_index, int64_t n_local)>;

    RecordedNetwork(Network network, const LoadOptions &options, double cutoff);

    // Whether to evaluate this graph here. Says yes once graphs of one size follow each other, and
    // only if they are small: large ones keep the device busy anyway. Without atoms of others.
    bool takes(const Graph &graph);

    // As those of Evaluator; forward before backward.
    ForwardResult forward(const Graph &graph);
    torch::Tensor backward(const torch::Tensor &gradient);

    // Of the last forward, for gradients that are not recorded: edge vectors with room, energies
    // and variables.
    torch::Tensor vectors() const { return vectors_; }
    torch::Tensor energies() const { return energies_.narrow(0, 0, n_atoms_); }
    torch::Tensor variables() const { return variables_.narrow(0, 0, n_atoms_); }

  private:
    void record(const Graph &graph);
    void make_room(const Graph &graph);
    void take_edges(const Graph &graph);
    void check_edges(int64_t bad) const;
    void check_room(const Graph &graph);
    ForwardResult results() const;

    Network network_;
    LoadOptions options_;
    double cutoff_;
    bool is_refused_ = false;  // the network cannot be recorded
    int64_t n_atoms_ = -1, n_unseen_ = 0, n_alike_ = 0, n_sparse_ = 0, n_edges_ = 0;
    torch::Tensor species_, index_, vectors_, bad_;  // what is read
    torch::Tensor energy_weights_, variable_weights_;
    torch::Tensor energies_, variables_, packed_, gradient_;  // what is written
    std::shared_ptr<Recording> forward_, backward_;
};

}  // namespace equicalc
