// LAMMPS atoms and neighbour list -> the graph of the model.
//
// Rows of the graph: first the atoms of this rank that the model describes, in the order of the
// neighbour list; then one row for every atom of another rank that has a ghost here, however many
// periodic images of it there are. Images of this rank's own atoms have no row of their own.
#pragma once

#include "equicalc.h"
#include "units.h"

#include "lmptype.h"
#include "pointers.h"

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace LAMMPS_NS {
class NeighList;
}

namespace equicalc_lammps {

// Which rank owns an atom and in which row; row -1 marks an atom the model does not describe.
struct Owner {
    int rank = -1;
    int row = -1;
};

class AtomGraph : protected LAMMPS_NS::Pointers {
  public:
    AtomGraph(LAMMPS_NS::LAMMPS *lmp, const Units &units, double cutoff,
              std::vector<int> species_of_type);

    // After a new neighbour list: gives rows to the atoms of this rank. Then `owners()` and types
    // must be completed for the ghosts (by communication) before `add_halo` gives rows to them.
    void number_local_atoms(const LAMMPS_NS::NeighList &list);
    std::vector<Owner> &owners() { return owners_; }
    void add_halo();
    // Instead of both, for a network that is not to exchange features: after number_local_atoms,
    // gives every ghost a row of its own, first those within `depth` neighbours of the atoms of
    // this rank. The list must have the neighbours of ghosts, and the ghosts must reach that far.
    void add_ghosts(const LAMMPS_NS::NeighList &list, int depth);

    // Whether there are other atoms or ghosts than when rows were given. Then the neighbour list is
    // of no use.
    bool atoms_changed() const;
    // Whether an atom's type is another than then: fixes that exchange types keep the neighbour
    // list.
    bool types_changed() const;
    // Whether a type has become one that sees farther than the list goes: NULL before, for example.
    bool list_is_short(const double *const *squared_cutoffs) const;

    // Throws where the position of an atom of this rank is not a number.
    void check_positions() const;
    // The edges shorter than the cutoff at the present positions, in memory that is written again
    // at the next call.
    equicalc::Graph build(const LAMMPS_NS::NeighList &list);

    double cutoff() const { return std::sqrt(cutoff_squared_); }
    int64_t n_local() const { return n_local_; }
    // Rows that have edges of their own, and rows that the network counts as local.
    int64_t n_receivers() const { return n_receivers_; }
    int64_t n_graph_local() const { return has_ghost_rows_ ? n_rows_ : n_local_; }
    const torch::Tensor &species() const { return species_; }  // int64 [n_rows]
    // Rows that the network sees, first those of the atoms of this rank.
    int64_t n_rows() const { return n_rows_; }
    // Of the last build; while it fails, as far as it came.
    int64_t n_edges() const { return edges_.count; }
    int64_t n_total() const { return static_cast<int64_t>(atom_of_row_.size()); }
    // LAMMPS index of a row; for a halo row its first ghost, which stands for all images.
    const std::vector<int> &atom_of_row() const { return atom_of_row_; }
    // Row of a LAMMPS atom, local or ghost; -1: not described by the model.
    const std::vector<int> &row_of_atom() const { return row_of_atom_; }
    // Whether the model has anything to say of an atom; where it has not, charges are zero. Every
    // atom is in group `all`, but those that a fix of the kind of gcmc takes out for a moment to
    // see what their deletion would cost.
    bool describes(int i) const;
    // How messages name an atom: by its tag, or where there are none by its place on this rank.
    std::string label(int i) const;

  private:
    // Memory of edges, kept from step to step: room for `capacity` of them, `count` are there.
    struct Edges {
        int64_t capacity = 0, count = 0;
        std::vector<int32_t> index;  // receivers, and from `capacity` on senders
        std::vector<double> vectors;

        void make_room(int64_t more);
    };

    // Calls use(whether it is an edge, row of sender, vector in angstrom: x, y, z) for all
    // neighbours of a row: of every three about one is an edge, too few for a processor to guess.
    template <typename Use>
    void for_neighbours_of(const LAMMPS_NS::NeighList &list, int64_t row, const Use &use) const;
    void add_edges_of(const LAMMPS_NS::NeighList &list, int64_t row);
    void fill_species();

    double cutoff_squared_;             // angstrom^2
    double angstrom_;                   // per unit of length of the deck
    std::vector<int> species_of_type_;  // index 0 unused, as in LAMMPS
    int64_t n_local_ = 0;
    int64_t n_receivers_ = 0, n_rows_ = 0;
    bool has_ghost_rows_ = false;
    std::vector<int> atom_of_row_, row_of_atom_;
    // Of local and ghost atoms when rows were given.
    int n_own_ = 0;
    std::vector<int> types_;
    std::vector<LAMMPS_NS::tagint> tags_;
    std::vector<Owner> owners_;
    torch::Tensor species_;
    Edges edges_;
};

}  // namespace equicalc_lammps
