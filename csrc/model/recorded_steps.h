// Steps of a network on a device that are recorded, positions in and forces out: for a number of
// atoms, and room for pairs and for edges that some more atoms, which nobody sees, fill with edges
// to themselves. Two recordings, forward and backward, with the charges of the atoms found in
// between.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "model/device_steps.h"
#include "model/recording.h"

namespace equicalc {

class RecordedSteps {
  public:
    // Energies [n_local] and charge variables [n_local, K] from species, edge vectors and index.
    using Network = std::function<std::pair<torch::Tensor, torch::Tensor>(
        const torch::Tensor &species, const torch::Tensor &edge_vectors,
        const torch::Tensor &edge_index, int64_t n_local)>;

    RecordedSteps(Network network, const LoadOptions &options, double cutoff);

    void set_pairs(const Pairs &pairs);
    // Whether to evaluate these positions here. Says yes once steps of one size, with about so many
    // edges, follow each other, and only if they are small: large ones keep the device busy anyway.
    bool takes(const Positions &positions, int64_t n_edges);

    // Forward before backward; positions of the number that `takes` has seen. Nothing when these
    // need more room and cannot be recorded with it.
    std::optional<ForwardResult> forward(const Positions &positions);
    EdgeForces backward(const torch::Tensor &gradient, bool with_atom_virials);

    // Of the edges of the last forward, which are on the device; as Evaluator::variable_gradient.
    torch::Tensor variable_gradient(const torch::Tensor &gradient) const;
    Graph graph() const;

  private:
    torch::Tensor energies() const { return energies_.narrow(0, 0, n_atoms_); }
    torch::Tensor variables() const { return variables_.narrow(0, 0, n_atoms_); }
    void record(const Positions &positions);
    void make_room(int64_t n_points, int64_t n_edges);
    void send(const Positions &positions);
    void copy_pairs();
    void find_edges();
    void evaluate();
    void differentiate();
    void check_room();
    int64_t run_forward(const Positions &positions);
    void wait() const;
    torch::Tensor host_memory(int64_t size) const;

    Network network_;
    LoadOptions options_;
    double cutoff_;
    bool is_refused_ = false;  // the network cannot be recorded
    bool is_stale_ = true;     // the pairs are not those of the recordings
    int64_t n_alike_ = 0, n_sparse_ = 0, n_atoms_ = -1, n_unseen_ = 0, n_edges_ = 0;
    Pairs pairs_;

    // Read by the recordings: cell and positions, and what is known of pairs.
    torch::Tensor staged_, input_, species_;
    torch::Tensor n_pairs_, rows_, points_, shifts_, rank_, order_, pair_starts_;
    // Of the edges.
    torch::Tensor pair_vectors_, flags_, counts_, n_found_;
    torch::Tensor index_, vectors_, exact_vectors_, starts_, sender_starts_, sender_edges_;
    // Of the network.
    torch::Tensor energy_weights_, variable_weights_, staged_weights_, input_weights_;
    torch::Tensor energies_, variables_, gradient_, atom_virials_;
    torch::Tensor results_, forces_, host_results_, host_forces_;
    std::shared_ptr<Recording> forward_, backward_;
};

}  // namespace equicalc
