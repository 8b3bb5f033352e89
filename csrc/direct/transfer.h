// Transferred charges in direct evaluation (equicalc/nn/charges.py): charge flows along edges as
// far as potentials of the two atoms differ and their vectors point along the edge.
#pragma once

#include "direct/graph.h"
#include "direct/layers.h"

namespace equicalc::direct {

template <typename T>
class Transfer {
  public:
    explicit Transfer(const Parts &parts);

    // Numbers of one atom: its potentials, then its vectors as rows x, y, z.
    static constexpr int64_t kSize = 4 * kTransferRow<T>;
    static constexpr int64_t kVariables = 5;

    int64_t n_gains() const { return hidden_; }
    // Where the vectors of the atoms of a tile go; rows of kTransferRow.
    static TileRows<T> vectors(T *ends) { return {ends, kSize, kTransferRow<T>}; }

    // Scalars of the atoms of a tile to the potentials in `ends` (in double's or float's type);
    // gains are kept for the way back. Without vectors in the model, their rows become zero.
    void potentials(int64_t n_atoms, const int64_t *species, TileRows<const T> scalars, T *gains,
                    T *ends, Scratch<T> &scratch) const;
    // Gradients by potentials to those by scalars, added.
    void differentiate_potentials(int64_t n_atoms, const T *by_ends, const T *gains,
                                  TileRows<T> by_scalars, Scratch<T> &scratch) const;

    // ends of all atoms -> added to variables [n_local, kVariables] of receivers [begin, end)
    void forward(const EdgeIndex &edges, int64_t begin, int64_t end, const T *ends,
                 double *variables, Scratch<T> &scratch) const;
    // Gradients by variables to those by ends of receivers (stored) and by edge vectors (stored, or
    // added with `add`); then those by ends of senders, added.
    void backward_on_receivers(const EdgeIndex &edges, int64_t begin, int64_t end, const T *ends,
                               const double *by_variables, T *by_ends, double *by_vectors, bool add,
                               Scratch<T> &scratch) const;
    void backward_on_senders(const EdgeIndex &edges, int64_t begin, int64_t end,
                             const double *by_variables, T *by_ends, Scratch<T> &scratch) const;

  private:
    EdgeLayout layout_;
    bool has_vectors_;
    int64_t hidden_;
    PackedRadial<T> radial_;
    Mixing<T> first_, second_;
    std::vector<T> species_potentials_;
};

}  // namespace equicalc::direct
