// One step of the pair style: graph, network forward, charges, long range, network backward.
#include "pair_equicalc.h"

#include "atom_graph.h"
#include "charge_history.h"
#include "collective_error.h"
#include "coulomb.h"
#include "halo.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "exceptions.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

using namespace LAMMPS_NS;
using namespace equicalc_lammps;

static_assert(equicalc_lammps::kCoulomb == equicalc::kCoulombConstant);

namespace {

// LAMMPS' order xx yy zz xy xz yz from a 3x3 matrix in rows; the antisymmetric part, which only
// per-atom shares have, carries no work.
std::array<double, 6> symmetric_part(const double *w) {
    return {w[0], w[4], w[8], 0.5 * (w[1] + w[3]), 0.5 * (w[2] + w[6]), 0.5 * (w[5] + w[7])};
}

}  // namespace

PairEquicalc::PairEquicalc(LAMMPS *lmp) : Pair(lmp) {
    one_coeff = 1;
    manybody_flag = 1;
    single_enable = 0;
    restartinfo = 0;  // as for all potentials with a file: repeat pair_style and pair_coeff
    respa_enable = 0;
    // Forces on ghosts are gathered in the first image of an atom: the virial must come from edges.
    no_virial_fdotr_compute = 1;
    // Energies of message-passing models have no centroid form.
    centroidstressflag = CENTROID_NOTAVAIL;
    // MSM is claimed here and refused later, with a message that names the line to type.
    ewaldflag = pppmflag = msmflag = 1;
    ncoultablebits = 0;  // no real-space Coulomb part, no table, no error of a table
    nextra = 4;          // dipole and steps of the equilibration, for `compute pair`
    pvector = new double[nextra]();
}

PairEquicalc::~PairEquicalc() {
    delete[] pvector;
    if (allocated != 0 && copymode == 0) {
        memory->destroy(setflag);
        memory->destroy(cutsq);
    }
}

void PairEquicalc::compute(int eflag, int vflag) {
    ev_init(eflag, vflag);
    try {
        evaluate(eflag, vflag);
    } catch (const LAMMPSException &) {
        throw;
    } catch (const std::exception &exception) {
        error->one(FLERR, "pair_style equicalc: at step " + std::to_string(update->ntimestep) +
                              " on rank " + std::to_string(comm->me) + ": " + exception.what());
    }
}

void PairEquicalc::evaluate(int eflag, int vflag) {
    renumber_atoms_if_rebuilt();
    equicalc::Graph graph;
    run_on_all_ranks(lmp, [&] { graph = graph_->build(*list); });
    equicalc::HaloExchange *exchange = comm->nprocs > 1 ? halo_.get() : nullptr;
    const equicalc::ForwardResult result = evaluator_->forward(graph, exchange);

    torch::Tensor charge_gradient;
    if (coulomb_) {
        charge_gradient = add_charges(result.variables.contiguous(), eflag, vflag);
    }
    const torch::Tensor edge_gradients = evaluator_->backward(charge_gradient, exchange);
    run_on_all_ranks(lmp, [&] { add_short_range(result.energies, graph, edge_gradients); });
}

void PairEquicalc::renumber_atoms_if_rebuilt() {
    if (neighbor->ago != 0 && neighbor->lastcall == numbered_at_) {
        return;
    }
    graph_->number_local_atoms(*list);
    halo_->find_owners();
    graph_->add_halo();
    numbered_at_ = neighbor->lastcall;
}

void PairEquicalc::add_short_range(const torch::Tensor &energies, const equicalc::Graph &graph,
                                   const torch::Tensor &edge_gradients) {
    const equicalc::EdgeForces result = equicalc::scatter_edges(
        {graph.edge_index, graph.edge_vectors}, edge_gradients, graph.n_local, graph_->n_total());
    const double *forces = result.forces.data_ptr<double>();
    for (int64_t row = 0; row < graph_->n_total(); ++row) {
        double *target = atom->f[graph_->atom_of_row()[row]];
        for (int k = 0; k < 3; ++k) {
            target[k] += forces[3 * row + k];
        }
    }
    const double *node_energies = energies.data_ptr<double>();
    const double *atom_virials = result.atom_virials.data_ptr<double>();
    for (int64_t row = 0; row < graph.n_local; ++row) {
        const int i = graph_->atom_of_row()[row];
        const double *f = atom->f[i];
        if (!std::isfinite(node_energies[row] + f[0] + f[1] + f[2])) {
            throw std::runtime_error(
                "the energy of or the force on atom " + std::to_string(atom->tag[i]) +
                " is not a finite number at step " + std::to_string(update->ntimestep) +
                " on rank " + std::to_string(comm->me) +
                ". Atoms may be on top of each other, or the time step too long");
        }
        if (eflag_global != 0) {
            eng_vdwl += node_energies[row];
        }
        if (eflag_atom != 0) {
            eatom[i] += node_energies[row];
        }
        if (vflag_atom != 0) {
            const auto share = symmetric_part(atom_virials + 9 * row);
            for (int k = 0; k < 6; ++k) {
                vatom[i][k] += share[k];
            }
        }
    }
    if (vflag_global != 0) {
        const auto total = symmetric_part(result.virial.data_ptr<double>());
        for (int k = 0; k < 6; ++k) {
            virial[k] += total[k];
        }
    }
}

int PairEquicalc::pack_forward_comm(int n, int *list, double *buffer, int, int *) {
    return halo_->pack_forward(n, list, buffer);
}

void PairEquicalc::unpack_forward_comm(int n, int first, double *buffer) {
    halo_->unpack_forward(n, first, buffer);
}

int PairEquicalc::pack_reverse_comm(int n, int first, double *buffer) {
    return halo_->pack_reverse(n, first, buffer);
}

void PairEquicalc::unpack_reverse_comm(int n, int *list, double *buffer) {
    halo_->unpack_reverse(n, list, buffer);
}
