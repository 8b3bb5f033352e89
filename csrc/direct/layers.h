// What happens on atoms in direct evaluation: products of features, mixing of channels, readout.
// Everything works on a tile, a few atoms whose numbers stay in the caches.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "direct/graph.h"
#include "direct/packing.h"

namespace equicalc::direct {

// Atoms of a tile: rows of matrix products fill their registers for every degree.
inline constexpr int64_t kTile = 12;
inline constexpr int64_t kHalfTile = kTile / 2;

// Working memory of one thread; see where each is used.
template <typename T>
struct Scratch {
    Buffer<T> records, gradients, sums, powers, by_powers, weighted, radial, hidden, by_hidden;
    std::vector<int64_t> offset, target, species;
    std::vector<const T *> in;
    std::vector<T *> out;
};

// Where the features that an edge carries come from and go to.
template <typename T>
void find_ends(const EdgeIndex &edges, const EdgeList &list, int64_t sender_size,
               int64_t receiver_size, Scratch<T> &scratch) {
    scratch.offset.resize(list.count);
    scratch.target.resize(list.count);
    for (int64_t k = 0; k < list.count; ++k) {
        scratch.offset[k] = edges.sender(list[k]) * sender_size;
        scratch.target[k] = edges.receiver(list[k]) * receiver_size;
    }
}

template <typename T>
const T *find_records(const RadialTable<T> &table, const EdgeLayout &layout, const EdgeList &list,
                      Scratch<T> &scratch) {
    T *records = scratch.records.ensure(list.count * layout.width());
    kernels<T>().edge_records(layout, table, list, records);
    return records;
}

// Features of the atoms of a tile.
template <typename T>
struct TileRows {
    T *data;
    int64_t per_atom, per_row;
};

// One matrix for each degree, and its transpose.
template <typename T>
class Mixing {
  public:
    Mixing() = default;
    explicit Mixing(const std::vector<torch::Tensor> &matrices);  // float64 [k, n] each

    int64_t n_degrees() const { return int64_t(forward_.size()); }
    // out (+)= in . matrix for the rows of all degrees there are
    void apply(int64_t n_atoms, TileRows<const T> in, TileRows<T> out, bool add,
               Scratch<T> &scratch) const {
        run(forward_, n_atoms, in, out, add, scratch);
    }
    void apply_transposed(int64_t n_atoms, TileRows<const T> in, TileRows<T> out, bool add,
                          Scratch<T> &scratch) const {
        run(backward_, n_atoms, in, out, add, scratch);
    }

  private:
    static void run(const std::vector<PackedMatrix<T>> &matrices, int64_t n_atoms,
                    TileRows<const T> in, TileRows<T> out, bool add, Scratch<T> &scratch);

    std::vector<PackedMatrix<T>> forward_, backward_;
};

// Powers a, a x a, (a x a) x a, ... of node features, side by side: [atoms, M, order, channels].
template <typename T>
class Powers {
  public:
    Powers(const Parts &parts, const std::string &path, int64_t up_to_degree);

    int64_t order() const { return int64_t(couplings_.size()) + 1; }
    int64_t n_components() const { return n_components_; }
    int64_t width() const { return order() * channels_; }     // of one component
    int64_t size() const { return n_components_ * width(); }  // of one atom

    // Powers of features [M, channels] of the atoms of a tile, in scratch memory. The highest one
    // may be left out: `differentiate` does not need it.
    T *start(int64_t n_atoms, const int64_t *species, const T *features, bool with_highest,
             Scratch<T> &scratch) const;
    // The same where the first power is there already.
    void fill(int64_t n_atoms, const int64_t *species, bool with_highest, T *powers) const;
    // by_powers: the gradient by each power on its own; then, in the first place, by a.
    void differentiate(int64_t n_atoms, const int64_t *species, const T *powers, T *by_powers,
                       Scratch<T> &scratch) const;

  private:
    int64_t n_components_, channels_;
    std::vector<PackedCoupling<T>> couplings_;
};

// Scalars of an atom to its energy and the outputs of the charge model.
template <typename T>
class Readout {
  public:
    static constexpr int64_t kOutputs = kBlock<T>;

    // n_groups of `channels` scalars.
    Readout(const Parts &parts, int64_t n_groups);

    int64_t n_gains() const { return 2 * hidden_; }
    // outputs [n, kOutputs]: the energy, then the others; gains are kept for `differentiate`.
    void evaluate(int64_t n_atoms, const int64_t *species, const T *scalars, T *gains, T *outputs,
                  Scratch<T> &scratch) const;
    // by_outputs [n, kOutputs] -> by_scalars
    void differentiate(int64_t n_atoms, const T *by_outputs, const T *gains, T *by_scalars,
                       Scratch<T> &scratch) const;

  private:
    int64_t width_, hidden_;
    Mixing<T> first_, second_, third_;
    std::vector<T> species_bias_, bias_;
};

}  // namespace equicalc::direct
