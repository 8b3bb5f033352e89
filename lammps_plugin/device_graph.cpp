#include "device_graph.h"

#include "atom_graph.h"

#include "atom.h"
#include "neigh_list.h"

#include <torch/types.h>

#include <algorithm>
#include <numeric>

namespace equicalc_lammps {
namespace {

// Where each of n rows begins among pairs that are sorted by row.
std::vector<int64_t> starts(const std::vector<int32_t> &rows, int64_t n) {
    std::vector<int64_t> start(n + 1, 0);
    for (const int32_t row : rows) {
        ++start[row + 1];
    }
    std::partial_sum(start.begin(), start.end(), start.begin());
    return start;
}

std::vector<int32_t> order_of(const std::vector<int32_t> &rows, std::vector<int64_t> next) {
    std::vector<int32_t> order(rows.size());
    for (size_t pair = 0; pair < rows.size(); ++pair) {
        order[next[rows[pair]]++] = static_cast<int32_t>(pair);
    }
    return order;
}

torch::Tensor copy_of(const std::vector<int64_t> &values, torch::Device device) {
    return torch::tensor(values, torch::kInt64).to(device);
}

torch::Tensor segment_sum(const torch::Tensor &values, const torch::Tensor &start) {
    return torch::segment_reduce(values, "sum", {}, {}, start, 0, /*unsafe=*/true, 0);
}

}  // namespace

DeviceGraph::DeviceGraph(LAMMPS_NS::LAMMPS *lmp, const Units &units, double cutoff,
                         torch::Device device)
    : Pointers(lmp),
      cutoff_squared_(cutoff * cutoff),
      angstrom_(units.angstrom()),
      device_(device) {}

torch::Tensor DeviceGraph::on_device(const std::vector<int32_t> &values) const {
    torch::Tensor host = torch::empty({static_cast<int64_t>(values.size())}, torch::kInt32);
    std::copy(values.begin(), values.end(), host.data_ptr<int32_t>());
    return host.to(device_);
}

void DeviceGraph::renumber(const AtomGraph &atoms, const LAMMPS_NS::NeighList &list) {
    const std::vector<int> &atom_of_row = atoms.atom_of_row(), &row_of_atom = atoms.row_of_atom();
    std::vector<int32_t> receivers, senders, receiver_atoms, sender_atoms;
    for (int64_t row = 0; row < atoms.n_receivers(); ++row) {
        const int i = atom_of_row[row];
        for (int k = 0; k < list.numneigh[i]; ++k) {
            const int j = list.firstneigh[i][k] & NEIGHMASK;
            if (row_of_atom[j] >= 0) {
                receivers.push_back(static_cast<int32_t>(row));
                senders.push_back(row_of_atom[j]);
                receiver_atoms.push_back(i);
                sender_atoms.push_back(j);
            }
        }
    }
    n_local_ = atoms.n_graph_local();
    species_ = atoms.species().to(device_);
    const std::vector<int64_t> sender_start = starts(senders, atoms.n_total());
    receivers_ = on_device(receivers);
    senders_ = on_device(senders);
    receiver_atoms_ = on_device(receiver_atoms);
    sender_atoms_ = on_device(sender_atoms);
    sender_order_ = on_device(order_of(senders, sender_start));
    receiver_start_ = copy_of(starts(receivers, atoms.n_total()), device_);
    sender_start_ = copy_of(sender_start, device_);
    host_positions_ = torch::empty({atom->nlocal + atom->nghost, 3},
                                   torch::dtype(torch::kFloat64).pinned_memory(device_.is_cuda()));
    kept_ = torch::Tensor();
}

equicalc::Pairs DeviceGraph::pairs() const {
    return {species_, torch::stack({receivers_, senders_}),
            torch::stack({receiver_atoms_, sender_atoms_}), torch::Tensor(), n_local_};
}

torch::Tensor DeviceGraph::positions() {
    if (host_positions_.numel() > 0) {
        std::copy_n(atom->x[0], host_positions_.numel(), host_positions_.data_ptr<double>());
    }
    return host_positions_.mul_(angstrom_);
}

equicalc::Graph DeviceGraph::build() {
    const torch::Tensor x = positions().to(device_);
    const torch::Tensor d = x.index_select(0, sender_atoms_) - x.index_select(0, receiver_atoms_);
    kept_ = (d.square().sum(1) < cutoff_squared_).nonzero().view(-1);
    equicalc::Graph graph;
    graph.species = species_;
    graph.n_local = n_local_;
    graph.edge_index =
        torch::stack({receivers_.index_select(0, kept_), senders_.index_select(0, kept_)});
    graph.edge_vectors = d.index_select(0, kept_);
    return graph;
}

torch::Tensor DeviceGraph::in_slots(const torch::Tensor &of_edges) const {
    torch::Tensor slots = torch::zeros({receivers_.size(0), of_edges.size(1)}, of_edges.options());
    return slots.index_copy_(0, kept_, of_edges);
}

torch::Tensor DeviceGraph::by_receiver(const torch::Tensor &slots) const {
    return segment_sum(slots, receiver_start_);
}

torch::Tensor DeviceGraph::by_sender(const torch::Tensor &slots) const {
    return segment_sum(slots.index_select(0, sender_order_), sender_start_);
}

equicalc::EdgeForces DeviceGraph::sum(const equicalc::Graph &graph,
                                      const torch::Tensor &edge_gradients,
                                      bool with_atom_virials) const {
    const torch::Tensor slots = in_slots(edge_gradients);
    equicalc::EdgeForces result;
    result.forces = (by_receiver(slots) - by_sender(slots)).cpu();
    result.virial = graph.edge_vectors.t().mm(edge_gradients).neg().cpu();
    if (with_atom_virials) {
        const torch::Tensor products =
            graph.edge_vectors.unsqueeze(2).mul(edge_gradients.unsqueeze(1)).view({-1, 9});
        result.atom_virials = by_receiver(in_slots(products.neg()))
                                  .narrow(0, 0, graph.n_local)
                                  .view({graph.n_local, 3, 3})
                                  .cpu();
    }
    return result;
}

Contact DeviceGraph::closest(const equicalc::Graph &graph,
                             const std::vector<double> &squared_limits) const {
    if (graph.edge_vectors.size(0) == 0) {
        return {};
    }
    if (!limits_.defined()) {
        limits_ = torch::tensor(squared_limits, torch::kFloat64).to(device_);
    }
    const auto n_elements = static_cast<int64_t>(std::lround(std::sqrt(squared_limits.size())));
    const auto species_of = [&](int64_t end) {
        return graph.species.index_select(0, graph.edge_index.select(0, end));
    };
    const torch::Tensor limit = limits_.index_select(0, species_of(0) * n_elements + species_of(1));
    const auto [ratio, edge] = (graph.edge_vectors.square().sum(1) / limit).min(0);
    // no limit: infinite, or not a number where both are zero
    const double found = ratio.item<double>();
    return found < 1.0 ? Contact{found, edge.item<int64_t>()} : Contact{};
}

}  // namespace equicalc_lammps
