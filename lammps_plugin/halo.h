// Node features across ranks, through the ghost communication of LAMMPS.
//
// LAMMPS sends ghosts in several swaps; a ghost received in one swap may be sent on in the next.
// Going forward every ghost therefore carries the features of its owner. Going backward each row
// must be counted once: only the first ghost of a row sends the row's gradient, its other images
// send zeros. The first ghost arrived in the earliest swap, so in reverse order it is sent last,
// after every gradient that passes through the row has been added.
#pragma once

#include "atom_graph.h"
#include "equicalc.h"

#include "pointers.h"

namespace LAMMPS_NS {
class Pair;
}

namespace equicalc_lammps {

class Halo : public equicalc::HaloExchange, protected LAMMPS_NS::Pointers {
  public:
    // `pair` is the style whose pack and unpack functions LAMMPS calls; it passes them on to here.
    Halo(LAMMPS_NS::LAMMPS *lmp, LAMMPS_NS::Pair *pair, AtomGraph &graph);
    ~Halo() noexcept override {}  // Pointers may throw there, HaloExchange must not

    // Doubles per atom in LAMMPS' buffers for features of this width.
    static int buffer_size(int64_t width, int64_t bytes_per_number);

    // Collective, after number_local_atoms: fills in the owners of the ghosts.
    void find_owners();

    torch::Tensor forward(const torch::Tensor &local, int64_t n_total) override;
    torch::Tensor reverse(const torch::Tensor &grad_total, int64_t n_local) override;

    int pack_forward(int n, const int *list, double *buffer) const;
    void unpack_forward(int n, int first, const double *buffer);
    int pack_reverse(int n, int first, double *buffer) const;
    void unpack_reverse(int n, const int *list, const double *buffer);

  private:
    void use(const torch::Tensor &features);
    char *row_data(int row) const;

    LAMMPS_NS::Pair *pair_;
    AtomGraph &graph_;
    bool sending_owners_ = false;
    torch::Tensor features_;  // what the running forward or reverse call works on
    char *data_ = nullptr;
    int row_bytes_ = 0;
    int row_doubles_ = 0;
    bool single_precision_ = false;
};

}  // namespace equicalc_lammps
