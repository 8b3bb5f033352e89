// The layers of direct evaluation. Each works on tiles of atoms [begin, end): forward on receivers,
// backward on senders, so that every sum has one owner and results do not depend on the number of
// threads. Nothing is kept between forward and backward but what callers hand in.
#pragma once

#include "direct/graph.h"
#include "direct/update.h"

namespace equicalc::direct {

// Species of neighbours to features.
template <typename T>
class FirstLayer {
  public:
    // `next`, `next_skips`: see Update.
    FirstLayer(const Parts &parts, const std::string &next, bool next_skips);

    void forward(const EdgeIndex &edges, int64_t begin, int64_t end, const UpdateRows<T> &to,
                 Scratch<T> &scratch) const;
    // Stores gradients by edge vectors of the receivers, or adds to them.
    void backward(const EdgeIndex &edges, int64_t begin, int64_t end, const UpdateRows<T> &by,
                  double *by_vectors, bool add, Scratch<T> &scratch) const;

  private:
    // Sums of the atoms of a tile, as features before the update.
    TileRows<T> sums_of(Scratch<T> &scratch) const {
        return {scratch.sums.data(), n_components_ * sum_.width, sum_.width};
    }
    // Edge records, species of senders, sums, and powers; returns the powers.
    T *powers_of(const EdgeIndex &edges, int64_t begin, int64_t end, bool with_highest,
                 Scratch<T> &scratch) const;

    int64_t n_components_, channels_;
    PackedRadial<T> radial_;
    SpeciesSum<T> sum_;
    std::vector<T> embedding_;
    Mixing<T> mixing_;
    Update<T> update_;  // with the sums as features before, where they are fewer than channels
    // what an atom's own species adds, per species, to what goes out
    std::vector<T> own_scalars_, own_messages_;
};

// Features of neighbours to features: full convolution.
template <typename T>
class MiddleLayer {
  public:
    MiddleLayer(const Parts &parts, const std::string &path, const std::string &next,
                bool next_skips);

    // x: features of all atoms; messages [n_local, M, channels] are kept by the caller.
    void forward(const EdgeIndex &edges, int64_t begin, int64_t end, const T *x,
                 TileRows<const T> before, T *messages, const UpdateRows<T> &to,
                 Scratch<T> &scratch) const;
    // From gradients by what went out to those by messages and by the features before.
    void backward_on_atoms(const EdgeIndex &edges, int64_t begin, int64_t end, const T *messages,
                           const UpdateRows<T> &by, T *by_messages, TileRows<T> by_before,
                           Scratch<T> &scratch) const;
    // From there to gradients by x of senders, and added to those by edge vectors.
    void backward_on_senders(const EdgeIndex &edges, int64_t begin, int64_t end, const T *x,
                             const T *by_messages, T *by_x, double *by_vectors,
                             Scratch<T> &scratch) const;

  private:
    int64_t n_components_, channels_;
    PackedRadial<T> radial_;
    PackedFullConvolution<T> convolution_;
    Update<T> update_;
};

// Features of neighbours to scalars.
template <typename T>
class LastLayer {
  public:
    explicit LastLayer(const Parts &parts);

    // scalars: rows of `width` numbers, messages first.
    void forward(const EdgeIndex &edges, int64_t begin, int64_t end, const T *x, T *scalars,
                 int64_t width, Scratch<T> &scratch) const;
    // Stores gradients by x and by edge vectors of the senders.
    void backward_on_senders(const EdgeIndex &edges, int64_t begin, int64_t end, const T *x,
                             const T *by_scalars, int64_t width, T *by_x, double *by_vectors,
                             Scratch<T> &scratch) const;

  private:
    int64_t n_components_, channels_;
    PackedRadial<T> radial_;
    PackedMatrix<T> weights_;
    ScalarConvolution<T> convolution_;
};

}  // namespace equicalc::direct
