// Energies and forces of a moving structure on a device that has kernels: pairs of atoms go there
// when they are searched, positions at every step, and forces come back.
#pragma once

#include "equicalc.h"

namespace equicalc {

class RecordedSteps;

// Pairs of atoms that may be closer than the cutoff.
struct Pairs {
    torch::Tensor species;  // int64 [n_total], of rows
    torch::Tensor rows;     // int64 [2, M], receivers (ascending, < n_local) and senders
    torch::Tensor points;   // int64 [2, M], where their positions are; undefined: at the rows
    torch::Tensor shifts;   // int32 [M, 3], images of senders in rows of the cell; undefined: none
    int64_t n_local = 0;
};

// float64 on the CPU.
struct Positions {
    torch::Tensor points;  // [P, 3], angstrom
    torch::Tensor cell;    // [3, 3], angstrom; undefined: there are no shifts
};

class DeviceSteps {
  public:
    // The model must be on a device for which there are kernels.
    explicit DeviceSteps(std::shared_ptr<Model> model);
    static bool run_on(torch::Device device);
    ~DeviceSteps();

    // After a search for neighbours, and when species have changed. Tensors may be on the CPU.
    void set_pairs(const Pairs &pairs);

    // As Evaluator::forward and, of what follows from the positions, Evaluator::backward.
    ForwardResult forward(const Positions &positions);
    EdgeForces backward(const torch::Tensor &gradient, bool with_atom_virials);
    // Forces of sum gradient_ik * variable_ik alone; keeps the graph for further calls.
    EdgeForces variable_forces(const torch::Tensor &gradient);

    // Of the last forward, on the device.
    Graph graph() const;
    // Whether the last step was a recording, repeated.
    bool is_recorded() const { return is_recorded_; }

  private:
    Graph edges_at(const Positions &positions) const;
    EdgeForces forces_of(const torch::Tensor &edge_gradients, bool with_atom_virials) const;

    Evaluator evaluator_;
    std::unique_ptr<RecordedSteps> recorded_;  // null: steps cannot be recorded here
    torch::Device device_;
    double cutoff_;
    Pairs pairs_;
    Graph graph_;
    int64_t n_edges_ = 0;
    bool is_recorded_ = false;
};

}  // namespace equicalc
