#include "atom_graph.h"

#include "atom.h"
#include "comm.h"
#include "neigh_list.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <unordered_map>

namespace equicalc_lammps {

AtomGraph::AtomGraph(LAMMPS_NS::LAMMPS *lmp, const Units &units, double cutoff,
                     std::vector<int> species_of_type)
    : Pointers(lmp),
      cutoff_squared_(cutoff * cutoff),
      angstrom_(units.angstrom()),
      species_of_type_(std::move(species_of_type)),
      species_(torch::empty({0}, torch::kInt64)) {}

bool AtomGraph::describes(int i) const {
    constexpr int kAll = 1;  // bit of the group
    return species_of_type_[atom->type[i]] >= 0 && (atom->mask[i] & kAll) != 0;
}

void AtomGraph::number_local_atoms(const LAMMPS_NS::NeighList &list) {
    const int n_atoms = atom->nlocal + atom->nghost;
    row_of_atom_.assign(n_atoms, -1);
    owners_.assign(n_atoms, Owner{});
    n_own_ = atom->nlocal;
    tags_.assign(atom->tag, atom->tag + (atom->tag_enable != 0 ? n_atoms : 0));
    atom_of_row_.clear();
    for (int k = 0; k < list.inum; ++k) {
        const int i = list.ilist[k];
        if (i < atom->nlocal && describes(i)) {
            const int row = static_cast<int>(atom_of_row_.size());
            row_of_atom_[i] = row;
            owners_[i] = {comm->me, row};
            atom_of_row_.push_back(i);
        }
    }
    n_local_ = static_cast<int64_t>(atom_of_row_.size());
    n_receivers_ = n_rows_ = n_local_;
    has_ghost_rows_ = false;
}

bool AtomGraph::atoms_changed() const {
    const auto n_before = static_cast<int>(owners_.size());
    return n_own_ != atom->nlocal || n_before != atom->nlocal + atom->nghost ||
           !std::equal(tags_.begin(), tags_.end(), atom->tag);
}

bool AtomGraph::types_changed() const {
    return !std::equal(types_.begin(), types_.end(), atom->type);
}

bool AtomGraph::list_is_short(const double *const *squared_cutoffs) const {
    for (int i = 0; i < n_own_; ++i) {
        const int before = types_[i], now = atom->type[i];
        for (int type = 1; type <= atom->ntypes && before != now; ++type) {
            if (squared_cutoffs[now][type] > squared_cutoffs[before][type]) {
                return true;
            }
        }
    }
    return false;
}

std::string AtomGraph::label(int i) const {
    return std::to_string(atom->tag_enable != 0 ? atom->tag[i] : i + 1);
}

void AtomGraph::add_halo() {
    std::unordered_map<int64_t, int> row_of_owner;
    for (int i = atom->nlocal; i < atom->nlocal + atom->nghost; ++i) {
        const Owner owner = owners_[i];
        if (owner.row < 0) {
            continue;
        }
        if (owner.rank == comm->me) {
            row_of_atom_[i] = owner.row;
            continue;
        }
        const int64_t key = (static_cast<int64_t>(owner.rank) << 32) | owner.row;
        const auto [entry, is_new] = row_of_owner.try_emplace(key, static_cast<int>(n_total()));
        if (is_new) {
            atom_of_row_.push_back(i);
        }
        row_of_atom_[i] = entry->second;
    }
    n_rows_ = n_total();
    fill_species();
}

void AtomGraph::add_ghosts(const LAMMPS_NS::NeighList &list, int depth) {
    has_ghost_rows_ = true;
    const auto add = [this](int i) {
        if (i >= atom->nlocal && row_of_atom_[i] < 0 && describes(i)) {
            row_of_atom_[i] = static_cast<int>(n_total());
            atom_of_row_.push_back(i);
        }
    };
    int64_t first = 0;
    for (int generation = 1; generation <= depth; ++generation) {
        n_receivers_ = n_total();  // those of the last generation only send
        for (int64_t row = first; row < n_receivers_; ++row) {
            const int i = atom_of_row_[row];
            for (int k = 0; k < list.numneigh[i]; ++k) {
                add(list.firstneigh[i][k] & NEIGHMASK);
            }
        }
        first = n_receivers_;
    }
    n_rows_ = n_total();
    fill_species();
    // Others have no part in the network, but may pass charges on to other ranks.
    for (int i = atom->nlocal; i < atom->nlocal + atom->nghost; ++i) {
        add(i);
    }
}

void AtomGraph::fill_species() {
    species_ = torch::empty({n_rows_}, torch::kInt64);
    int64_t *species = species_.data_ptr<int64_t>();
    for (int64_t row = 0; row < n_rows_; ++row) {
        species[row] = species_of_type_[atom->type[atom_of_row_[row]]];
    }
    types_.assign(atom->type, atom->type + atom->nlocal + atom->nghost);
}

void AtomGraph::check_positions() const {
    for (int i = 0; i < atom->nlocal; ++i) {
        const double *x = atom->x[i];
        if (!std::isfinite(x[0] + x[1] + x[2])) {
            throw std::runtime_error(
                "the position of atom " + label(i) + " is not a finite number at step " +
                std::to_string(update->ntimestep) + " on rank " + std::to_string(comm->me) +
                ". Look at the forces of the steps before; a smaller 'timestep' or a 'minimize' "
                "before the run may be what is missing");
        }
    }
}

template <typename Use>
void AtomGraph::for_neighbours_of(const LAMMPS_NS::NeighList &list, int64_t row,
                                  const Use &use) const {
    const int i = atom_of_row_[row];
    const int *neighbours = list.firstneigh[i], *row_of_atom = row_of_atom_.data();
    const double *const *x = atom->x;
    const double xi = x[i][0], yi = x[i][1], zi = x[i][2];
    const double angstrom = angstrom_, cutoff_squared = cutoff_squared_;
    for (int k = 0, n = list.numneigh[i]; k < n; ++k) {
        const int j = neighbours[k] & NEIGHMASK;
        const double dx = angstrom * (x[j][0] - xi), dy = angstrom * (x[j][1] - yi),
                     dz = angstrom * (x[j][2] - zi);
        const bool is_near = dx * dx + dy * dy + dz * dz < cutoff_squared;
        use(is_near & (row_of_atom[j] >= 0), row_of_atom[j], dx, dy, dz);
    }
}

void AtomGraph::Edges::make_room(int64_t more) {
    if (count + more > capacity) {
        const int64_t larger = equicalc::with_room(count + more);
        std::vector<int32_t> moved(2 * larger);
        std::copy_n(index.begin(), count, moved.begin());
        std::copy_n(index.begin() + capacity, count, moved.begin() + larger);
        index.swap(moved);
        vectors.resize(3 * larger);
        capacity = larger;
    }
}

// What is no edge is overwritten by the next one: there is room for all neighbours.
void AtomGraph::add_edges_of(const LAMMPS_NS::NeighList &list, int64_t row) {
    int32_t *receivers = edges_.index.data(), *senders = receivers + edges_.capacity;
    double *vectors = edges_.vectors.data();
    const auto receiver = static_cast<int32_t>(row);
    int64_t e = edges_.count;
    for_neighbours_of(list, row, [&](bool is_edge, int sender, double dx, double dy, double dz) {
        receivers[e] = receiver;
        senders[e] = sender;
        vectors[3 * e] = dx;
        vectors[3 * e + 1] = dy;
        vectors[3 * e + 2] = dz;
        e += static_cast<int64_t>(is_edge);
    });
    edges_.count = e;
}

equicalc::Graph AtomGraph::build(const LAMMPS_NS::NeighList &list) {
    if (edges_.capacity == 0) {  // at once, so that nothing has to move while it grows
        int64_t count = 0;
        for (int64_t row = 0; row < n_receivers_; ++row) {
            for_neighbours_of(list, row, [&](bool is_edge, int, double, double, double) {
                count += static_cast<int64_t>(is_edge);
            });
        }
        edges_.make_room(count);
    }
    edges_.count = 0;
    for (int64_t row = 0; row < n_receivers_; ++row) {
        edges_.make_room(list.numneigh[atom_of_row_[row]]);
        add_edges_of(list, row);
    }
    equicalc::Graph graph;
    graph.species = species_;
    graph.n_local = n_graph_local();
    graph.edge_index = torch::from_blob(edges_.index.data(), {2, edges_.count},
                                        {edges_.capacity, 1}, torch::kInt32);
    graph.edge_vectors =
        torch::from_blob(edges_.vectors.data(), {edges_.count, 3}, torch::kFloat64);
    return graph;
}

}  // namespace equicalc_lammps
