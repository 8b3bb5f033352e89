// The virial of each atom with which `compute heat/flux` gives the energy current
//   J = d/dt sum_i r_i E_i = sum_i E_i v_i + sum_i W_i v_i.
// For energies U_j of neighbourhoods (Fan et al., Phys. Rev. B 92, 094301 (2015), eq. 21; for
// message passing Langer et al., Phys. Rev. B 108, L100302 (2023))
//   W_k = sum_j (r_j - r_k) (x) dU_j/dr_k,
// where r_j - r_k goes to the very image of atom k that U_j sees. With edges e = (receiver i <-
// sender k) and the moments M_e = sum_j (r_j - r_i) (x) dU_j/dr_e of their gradients g_e this is a
// share of every edge for both of its atoms:
//   W_i -= M_e,   W_k += M_e - r_e (x) g_e,
// and all shares sum to the virial of the whole. With one layer U_j depends on edges to its own
// atom alone, and M_e = 0. With more, three backward passes give sum_j r_j dU_j/dr_e: they need
// every image of an atom to be a row of its own (ghosts extended). Charges that respond to their
// surroundings are local quantities too, and have a part in M_e from afar: heat_of_charges.h.
#include "pair_equicalc.h"

#include "atom_graph.h"

#include "atom.h"

#include <array>
#include <vector>

using namespace LAMMPS_NS;
using namespace equicalc_lammps;

namespace {

// LAMMPS' order of nine components: xx yy zz xy xz yz yx zx zy, first index that of the position.
constexpr std::array<std::array<int, 3>, 3> kPlace{{{0, 3, 4}, {6, 1, 5}, {7, 8, 2}}};

}  // namespace

bool PairEquicalc::charges_respond() const {
    return info().has_charges() && info().charge_model != equicalc::ChargeModel::fixed;
}

// For each axis dW/d(edge vectors) [E, 3] of W = sum_j r_j U_j, without positions of 0, and the
// distant parts of charges.
std::array<torch::Tensor, 3> PairEquicalc::centroid_moments(Member &member,
                                                            const torch::Tensor &positions) {
    std::array<torch::Tensor, 3> moments;
    for (int axis = 0; axis < 3; ++axis) {
        torch::Tensor of_energies, of_variables;
        if (positions.defined()) {
            of_energies = positions.select(1, axis).narrow(0, 0, graph_->n_local()).contiguous();
        }
        if (heat_) {
            of_variables = heat_->distant[axis];
            if (positions.defined()) {
                of_variables = of_variables + of_energies.unsqueeze(1) * heat_->local;
            }
        }
        moments[axis] = member.evaluator
                            ->weighted_gradient(weights_of_own_rows(of_energies),
                                                weights_of_own_rows(of_variables))
                            .cpu();
    }
    return moments;
}

// Energies in the place of virials: `compute heat/flux` multiplies both by velocities.
void PairEquicalc::add_heat_of_atoms() {
    for (int64_t row = 0; row < graph_->n_local(); ++row) {
        double *virial = cvatom[graph_->atom_of_row()[row]];
        for (int a = 0; a < 3; ++a) {
            virial[a] += units_.energy * heat_->reservoir[row];
            for (int b = 0; b < 3 && !heat_->moved.empty(); ++b) {
                virial[kPlace[a][b]] += units_.energy * heat_->moved[row][3 * a + b];
            }
        }
    }
}

void PairEquicalc::add_centroid_virials(Member &member, const equicalc::Graph &graph,
                                        const torch::Tensor &edge_gradients) {
    torch::Tensor positions;  // of the rows, angstrom, where energies have moments
    if (depth() > 1) {
        positions = torch::empty({graph_->n_rows(), 3}, torch::kFloat64);
        auto rows = positions.accessor<double, 2>();
        for (int64_t row = 0; row < graph_->n_rows(); ++row) {
            for (int axis = 0; axis < 3; ++axis) {
                rows[row][axis] = units_.angstrom() * atom->x[graph_->atom_of_row()[row]][axis];
            }
        }
    }
    const bool has_moments = positions.defined() || heat_;
    std::array<torch::Tensor, 3> moments;
    torch::Tensor all_gradients = edge_gradients;
    if (has_moments) {
        moments = centroid_moments(member, positions);
    }
    if (heat_) {
        add_heat_of_atoms();
    }
    if (heat_ && !heat_->is_local_of_forces) {
        // Of the local energies, whose charges have other factors than those of the forces: only
        // sums over all atoms are the same.
        all_gradients =
            member.evaluator
                ->weighted_gradient(
                    weights_of_own_rows(torch::ones({graph_->n_local()}, torch::kFloat64)),
                    weights_of_own_rows(heat_->local))
                .cpu();
    }
    const auto index = graph.edge_index.accessor<int32_t, 2>();
    const double *vectors = graph.edge_vectors.data_ptr<double>();
    const double *gradients = all_gradients.data_ptr<double>();
    for (int64_t edge = 0; edge < index.size(1); ++edge) {
        double *of_receiver = cvatom[graph_->atom_of_row()[index[0][edge]]];
        double *of_sender = cvatom[graph_->atom_of_row()[index[1][edge]]];
        for (int a = 0; a < 3; ++a) {
            const double *sums = has_moments ? moments[a].data_ptr<double>() + 3 * edge : nullptr;
            const double r =
                positions.defined() ? positions.data_ptr<double>()[3 * index[0][edge] + a] : 0.0;
            for (int b = 0; b < 3; ++b) {
                const double g = gradients[3 * edge + b];
                const double moment = has_moments ? sums[b] - r * g : 0.0;
                of_receiver[kPlace[a][b]] -= units_.energy * moment;
                of_sender[kPlace[a][b]] += units_.energy * (moment - vectors[3 * edge + a] * g);
            }
        }
    }
}
