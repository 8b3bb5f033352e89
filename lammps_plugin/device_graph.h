// The graph of the model on the device of the model: what AtomGraph does with loops on the host, as
// operations of torch on any device.
//
// With a new neighbour list all its pairs, those in the skin included, go to the device, in the
// order of receivers and with what is needed to sum over senders. At every step only positions go
// there; edges are chosen, and forces summed, on the device. Every sum has one owner and one order:
// results do not change from run to run.
#pragma once

#include "contacts.h"
#include "model/device_steps.h"
#include "equicalc.h"
#include "units.h"

#include "pointers.h"

#include <vector>

namespace LAMMPS_NS {
class NeighList;
}

namespace equicalc_lammps {

class AtomGraph;

class DeviceGraph : protected LAMMPS_NS::Pointers {
  public:
    DeviceGraph(LAMMPS_NS::LAMMPS *lmp, const Units &units, double cutoff, torch::Device device);

    // After rows were given to atoms.
    void renumber(const AtomGraph &atoms, const LAMMPS_NS::NeighList &list);
    // The same pairs, of which LAMMPS' indices are the points; and all positions, angstrom.
    equicalc::Pairs pairs() const;
    torch::Tensor positions();
    // The edges shorter than the cutoff at the present positions.
    equicalc::Graph build();
    int64_t n_edges() const { return kept_.defined() ? kept_.size(0) : 0; }
    // As equicalc::EdgeScatter of the last graph; results on the host.
    equicalc::EdgeForces sum(const equicalc::Graph &graph, const torch::Tensor &edge_gradients,
                             bool with_atom_virials) const;
    // As Contacts::closest.
    Contact closest(const equicalc::Graph &graph, const std::vector<double> &squared_limits) const;

  private:
    torch::Tensor on_device(const std::vector<int32_t> &values) const;
    // Sums of rows of numbers of edges, for each atom as receiver or as sender.
    torch::Tensor in_slots(const torch::Tensor &of_edges) const;
    torch::Tensor by_receiver(const torch::Tensor &slots) const;
    torch::Tensor by_sender(const torch::Tensor &slots) const;

    double cutoff_squared_;  // angstrom^2
    double angstrom_;        // per unit of length of the deck
    torch::Device device_;
    int64_t n_local_ = 0;           // receivers of the network's graph
    mutable torch::Tensor limits_;  // of contacts; float64 [elements^2]
    torch::Tensor species_;         // int64 [rows that the network sees]
    torch::Tensor host_positions_;  // float64 [n, 3], of local and ghost atoms
    // Of the pairs: rows, LAMMPS' indices, and the pairs in the order of senders; int32.
    torch::Tensor receivers_, senders_, receiver_atoms_, sender_atoms_, sender_order_;
    torch::Tensor receiver_start_, sender_start_;  // where the pairs of each row begin; int64
    torch::Tensor kept_;                           // pairs that are edges of the last graph; int64
};

}  // namespace equicalc_lammps
