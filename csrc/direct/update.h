// The end of a layer in direct evaluation: powers of messages (and the features before them) to the
// features that the next layer, or the readout, wants. Linear maps that follow each other are one
// matrix: what the next layer sends is made where its features are made.
#pragma once

#include "direct/layers.h"

namespace equicalc::direct {

// Where the features of the atoms of a tile are, or their gradients.
template <typename T>
struct UpdateRows {
    TileRows<T> features;  // [M, channels], only where the next layer has a skip connection
    TileRows<T> messages;  // [M, channels], what the next layer's senders send
    TileRows<T> scalars;   // [channels], only where no layer follows but the last one
    TileRows<T> vectors;   // what charge transfer makes of vectors, x, y, z; there too
};

template <typename T>
class Update {
  public:
    // `product` is a path in the network, `skip` the matrices from the features before, if any.
    // `next` is the path of the linear map of the layer that follows, empty after the only layer;
    // `next_skips`: that layer also wants the features themselves. `skips_first`: what is linear
    // in the messages comes through `skip`, and the first power is not used.
    Update(const Parts &parts, const std::string &product, const std::vector<torch::Tensor> &skip,
           bool skips_first, const std::string &next, bool next_skips);

    const Powers<T> &powers() const { return powers_; }
    bool has_skip() const { return has_skip_; }

    // powers: [tile, powers().size()]; before: features [M, channels] for the skip connection.
    void forward(int64_t n_atoms, const T *powers, TileRows<const T> before,
                 const UpdateRows<T> &to, Scratch<T> &scratch) const;
    // From gradients by what went out to those by powers and by the features before. The gradient
    // by the features holds what came through the next layer's skip connection, and is changed.
    void backward(int64_t n_atoms, const UpdateRows<T> &by, T *by_powers, TileRows<T> by_before,
                  Scratch<T> &scratch) const;

  private:
    // out (+)= mixing of the components x, y, z of features of degree 1
    static void mix_vectors(const Mixing<T> &mixing, int64_t n_atoms, TileRows<const T> features,
                            TileRows<T> vectors, bool add, Scratch<T> &scratch);
    static void mix_vectors_back(const Mixing<T> &mixing, int64_t n_atoms,
                                 TileRows<const T> by_vectors, TileRows<T> by_features,
                                 Scratch<T> &scratch);

    bool has_skip_, has_next_, next_skips_, has_vectors_;
    Powers<T> powers_;
    int64_t unused_;                            // channels of the powers, from the first on
    Mixing<T> to_features_, skip_to_features_;  // with next_skips
    Mixing<T> to_messages_, skip_to_messages_;  // from features with next_skips, else from powers
    Mixing<T> to_scalars_, skip_to_scalars_;    // without next_skips
    Mixing<T> to_vectors_, skip_to_vectors_;    // the same, with charge transfer
};

}  // namespace equicalc::direct
