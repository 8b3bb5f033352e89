// One step of the pair style: graph, network forward, charges, long range, network backward.
#include "pair_equicalc.h"

#include "atom_graph.h"
#include "charge_constraint.h"
#include "charge_history.h"
#include "charge_watch.h"
#include "collective_error.h"
#include "committee.h"
#include "contacts.h"
#include "coulomb.h"
#include "device_graph.h"
#include "electric_field.h"
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

#include <algorithm>
#include <cmath>
#include <span>
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
    restartinfo = 0;   // as for all potentials with a file: repeat pair_style and pair_coeff
    respa_enable = 1;  // refused in compute_inner, with a message that names the line to type
    // Forces on ghosts are gathered in the first image of an atom: the virial must come from edges.
    no_virial_fdotr_compute = 1;
    centroidstressflag = CENTROID_AVAIL;
    // MSM is claimed here and refused later, with a message that names the line to type.
    ewaldflag = pppmflag = msmflag = 1;
    ncoultablebits = 0;  // no real-space Coulomb part, no table, no error of a table
    nextra = 7;          // dipole, steps of the equilibration, deviations; for `compute pair`
    pvector = new double[nextra]();
}

PairEquicalc::~PairEquicalc() {
    delete[] pvector;
    if (allocated != 0 && copymode == 0) {
        memory->destroy(setflag);
        memory->destroy(cutsq);
        memory->destroy(cutghost);
    }
}

void PairEquicalc::compute(int eflag, int vflag) {
    ev_init(eflag, vflag);
    try {
        evaluate(eflag, vflag);
    } catch (const LAMMPSException &) {
        throw;
    } catch (const std::exception &exception) {
        // Only this rank knows of it, the others wait for its messages: they have to be aborted.
        error->one(FLERR, "pair_style equicalc: " + step_and_rank(lmp) + ": " +
                              text_of(exception, load()));
    }
}

void PairEquicalc::evaluate(int eflag, int vflag) {
    if (coulomb_) {
        watch_->begin_step();
    }
    renumber_atoms_if_rebuilt();
    const equicalc::Graph graph = present_graph();
    std::fill_n(pvector, 4, 0.0);
    outputs_.begin(update->ntimestep, graph.n_local);
    if (coulomb_) {
        field_->follow_box();
        const std::span<const int> atoms(graph_->atom_of_row().data(), graph_->n_local());
        coulomb_->begin_step(*list, atoms, graph_->row_of_atom());
    }
    if (members_.size() == 1) {
        evaluate_member(members_.front(), graph, eflag, vflag);
    } else {
        evaluate_committee(graph, eflag, vflag);
    }
    if (coulomb_) {
        watch_->end_step();
    }
}

equicalc::Graph PairEquicalc::present_graph() {
    equicalc::Graph graph;
    Contact contact;
    const bool with_contacts = contacts_->are_checked();
    const auto build = [&] {
        graph_->check_positions();
        if (is_step_of_device()) {
            graph = evaluate_on_device();
        } else {
            graph = device_graph_ ? device_graph_->build() : graph_->build(*list);
        }
        if (with_contacts) {
            contact = device_graph_ ? device_graph_->closest(graph, contacts_->squared_limits())
                                    : contacts_->closest(graph);
        }
    };
    run_on_all_ranks(lmp, build, [&] { return load(); });
    if (with_contacts) {
        contacts_->check(contact, graph, *graph_);
    }
    if (comm->nprocs > 1 && !options_.extended_ghosts && depth() > 1) {
        halo_->choose(graph.edge_index);
    }
    return graph;
}

bool PairEquicalc::is_step_of_device() const {
    return steps_ && comm->nprocs == 1 && !options_.extended_ghosts && cvflag_atom == 0;
}

equicalc::Graph PairEquicalc::evaluate_on_device() {
    result_of_device_ = steps_->forward({device_graph_->positions(), {}});
    equicalc::Graph graph = steps_->graph();
    graph.edge_index = graph.edge_index.to(torch::kInt32);
    return graph;
}

void PairEquicalc::evaluate_committee(const equicalc::Graph &graph, int eflag, int vflag) {
    const int every = options_.deviation_every;
    const bool with_deviations = every > 0 && update->ntimestep % every == 0;
    committee_->begin_step(with_deviations);
    for (Member &member : members_) {
        committee_->begin_model();
        evaluate_member(member, graph, eflag, vflag);
        committee_->end_model();
    }
    committee_->end_step();
    divide_by_members();
    if (with_deviations) {
        const std::span<const int> atoms(graph_->atom_of_row().data(), graph_->n_local());
        const DeviationRange range = committee_->deviations(atoms, outputs_.deviations);
        outputs_.step_of_deviations = update->ntimestep;
        const double values[3] = {range.largest, range.smallest, range.mean};
        for (int k = 0; k < 3; ++k) {
            pvector[4 + k] = comm->me == 0 ? values[k] : 0.0;  // `compute pair` sums over ranks
        }
    }
}

// From sums over the models to means, of all but the forces.
void PairEquicalc::divide_by_members() {
    const auto n = static_cast<double>(members_.size());
    eng_vdwl /= n;
    eng_coul /= n;
    std::for_each(virial, virial + 6, [n](double &value) { value /= n; });
    std::for_each(pvector, pvector + 4, [n](double &value) { value /= n; });
    outputs_.divide_by(n);
    for (int i = 0; i < atom->nlocal + atom->nghost; ++i) {
        if (eflag_atom != 0) {
            eatom[i] /= n;
        }
        if (vflag_atom != 0) {
            std::for_each(vatom[i], vatom[i] + 6, [n](double &value) { value /= n; });
        }
        if (cvflag_atom != 0) {
            std::for_each(cvatom[i], cvatom[i] + 9, [n](double &value) { value /= n; });
        }
    }
    for (int64_t row = 0; row < graph_->n_local() && coulomb_; ++row) {
        atom->q[graph_->atom_of_row()[row]] = units_.charge * outputs_.charges[row];
    }
}

void PairEquicalc::evaluate_member(Member &member, const equicalc::Graph &graph, int eflag,
                                   int vflag) {
    equicalc::Graph own_graph = graph;
    if (member.species.defined()) {
        own_graph.species =
            member.species.to(graph.species.device()).index_select(0, graph.species);
    }
    equicalc::HaloExchange *exchange = comm->nprocs > 1 ? halo_.get() : nullptr;
    const bool extended = options_.extended_ghosts;
    const bool is_whole = is_step_of_device();
    equicalc::ForwardResult result =
        is_whole ? result_of_device_
                 : member.evaluator->forward(own_graph, extended ? nullptr : exchange);
    // Rows of ghosts belong to other ranks, or to other images of the box.
    result.energies = result.energies.narrow(0, 0, graph_->n_local());
    result.variables = result.variables.narrow(0, 0, graph_->n_local());
    outputs_.add_variables(result.variables);

    torch::Tensor charge_gradient;
    heat_.reset();
    if (coulomb_) {
        // One charge that is not a number would make all potentials so, and name no atom.
        run_on_all_ranks(lmp, [&] { require_finite(result, graph); });
        charge_gradient = add_charges(member, result.variables.contiguous(), eflag, vflag);
    }
    if (is_whole) {
        add_short_range(result.energies, graph, steps_->backward(charge_gradient, vflag_atom != 0));
        return;
    }
    const bool again = extended || heat_;  // there are further backward passes
    const torch::Tensor edge_gradients = halo_->serve([&] {
        return again ? member.evaluator->weighted_gradient(
                           weights_of_own_rows(torch::ones_like(result.energies)),
                           weights_of_own_rows(charge_gradient), extended ? nullptr : exchange)
                     : member.evaluator->backward(charge_gradient, exchange);
    });
    const auto add = [&] {
        add_short_range(result.energies, graph, sums_over_edges(graph, edge_gradients));
        if (cvflag_atom != 0) {
            add_centroid_virials(member, graph.on_host(), edge_gradients.cpu());
        }
    };
    run_on_all_ranks(lmp, add, [&] { return load(); });
    if (again) {
        member.evaluator->release();
    }
}

// Values of the rows of this rank, and zeros for all others that the network evaluates.
torch::Tensor PairEquicalc::weights_of_own_rows(const torch::Tensor &values) const {
    if (!values.defined()) {
        return values;
    }
    std::vector<int64_t> shape = values.sizes().vec();
    shape[0] = graph_->n_graph_local();
    torch::Tensor weights = torch::zeros(shape, values.options());
    weights.narrow(0, 0, values.size(0)).copy_(values);
    return weights;
}

int PairEquicalc::depth() const {
    const bool flows = info().charge_model == equicalc::ChargeModel::transferred;
    return std::max(static_cast<int>(info().n_layers), flows ? 2 : 1);
}

void PairEquicalc::renumber_atoms_if_rebuilt() {
    const bool is_new = neighbor->ago == 0 || neighbor->lastcall != listed_at_;
    if (!is_new && !atoms_need_rows()) {
        return;
    }
    graph_->number_local_atoms(*list);
    halo_->find_owners();
    if (options_.extended_ghosts) {
        graph_->add_ghosts(*list, depth());
    } else {
        graph_->add_halo();
    }
    halo_->renumber();
    if (device_graph_) {
        device_graph_->renumber(*graph_, *list);
    }
    // Also where this step goes another way: the next ones of this list may not.
    if (steps_ && comm->nprocs == 1 && !options_.extended_ghosts) {
        steps_->set_pairs(device_graph_->pairs());
    }
    listed_at_ = neighbor->lastcall;
    has_rows_ = true;
}

// Where the neighbour list is that of the last step; collective.
bool PairEquicalc::atoms_need_rows() {
    constexpr int kTypes = 1, kAtoms = 2;
    int change = graph_->atoms_changed() ? kAtoms : graph_->types_changed() ? kTypes : 0;
    if (change == kTypes && graph_->list_is_short(cutsq)) {
        change = kAtoms;
    }
    MPI_Allreduce(MPI_IN_PLACE, &change, 1, MPI_INT, MPI_MAX, world);
    if (change == kAtoms) {
        error->all(
            FLERR,
            "pair_style equicalc: the neighbour list belongs to other atoms and ghosts, or "
            "to another model, after commands such as write_data, balance, delete_atoms, set "
            "type and pair_coeff. Type 'run' without 'pre no' after them");
    }
    return change == kTypes || !has_rows_;
}

equicalc::EdgeForces PairEquicalc::sums_over_edges(const equicalc::Graph &graph,
                                                   const torch::Tensor &edge_gradients) {
    const bool with_shares = vflag_atom != 0;
    return device_graph_ ? device_graph_->sum(graph, edge_gradients, with_shares)
                         : scatter_.sum({graph.edge_index, graph.edge_vectors}, edge_gradients,
                                        graph.n_local, graph_->n_total(), with_shares);
}

void PairEquicalc::add_short_range(const torch::Tensor &energies, const equicalc::Graph &graph,
                                   const equicalc::EdgeForces &result) {
    const double *forces = result.forces.data_ptr<double>();
    for (int64_t row = 0; row < graph_->n_total(); ++row) {
        double *target = atom->f[graph_->atom_of_row()[row]];
        for (int k = 0; k < 3; ++k) {
            target[k] += units_.force() * forces[3 * row + k];
        }
    }
    const double *node_energies = energies.data_ptr<double>();
    std::vector<int64_t> not_finite;
    for (int64_t row = 0; row < graph_->n_local(); ++row) {
        const int i = graph_->atom_of_row()[row];
        const double *f = atom->f[i];
        if (!std::isfinite(node_energies[row] + f[0] + f[1] + f[2])) {
            not_finite.push_back(row);
        }
        outputs_.network_energies[row] += node_energies[row];
        if (eflag_global != 0) {
            eng_vdwl += units_.energy * node_energies[row];
        }
        if (eflag_atom != 0) {
            eatom[i] += units_.energy * node_energies[row];
        }
    }
    require_none_of(not_finite, graph, "energy or force");
    for (int64_t row = 0; row < graph.n_local && vflag_atom != 0; ++row) {
        const auto share = symmetric_part(result.atom_virials.data_ptr<double>() + 9 * row);
        for (int k = 0; k < 6; ++k) {
            vatom[graph_->atom_of_row()[row]][k] += units_.energy * share[k];
        }
    }
    if (vflag_global != 0) {
        const auto total = symmetric_part(result.virial.data_ptr<double>());
        for (int k = 0; k < 6; ++k) {
            virial[k] += units_.energy * total[k];
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
    return committee_->is_gathering() ? committee_->pack_reverse(n, first, buffer)
                                      : halo_->pack_reverse(n, first, buffer);
}

void PairEquicalc::unpack_reverse_comm(int n, int *list, double *buffer) {
    if (committee_->is_gathering()) {
        committee_->unpack_reverse(n, list, buffer);
    } else {
        halo_->unpack_reverse(n, list, buffer);
    }
}
