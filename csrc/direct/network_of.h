// Direct evaluation in one precision: declared here, defined in direct/network.cpp (forward) and
// direct/backward.cpp.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

#include "direct/charges.h"
#include "direct/message_passing.h"
#include "direct/network.h"
#include "direct/transfer.h"

namespace equicalc::direct {

using torch::Tensor;

// What passes from one layer to the next, on local atoms and, where senders need it, on all.
template <typename T>
struct Between {
    bool has_features = false;        // the next layer has a skip connection
    Buffer<T> features;               // of local atoms; once used, their gradients
    Buffer<T> messages, by_messages;  // of all atoms; by_messages unless they are overwritten
    T *by_sent = nullptr;             // gradients by messages, wherever they are
};

// What charge transfer keeps between forward and backward.
template <typename T>
struct TransferState {
    Buffer<T> ends, by_ends;  // what each atom brings to the flow, of all atoms, and gradients
    Buffer<T> gains;
};

// Weights as the loops read them.
struct WeightRows {
    double energy = 1.0;
    const double *energies = nullptr, *variables = nullptr;

    double of_energy(int64_t atom) const { return energies ? energies[atom] : energy; }
    bool without_energies() const { return energies == nullptr && energy == 0.0; }
};

template <typename T>
class NetworkOf final : public Network {
  public:
    explicit NetworkOf(const Parts &parts);

    ForwardResult forward(const Graph &graph, HaloExchange *exchange) override;
    Tensor backward(const OutputWeights &weights, HaloExchange *exchange) override;

  private:
    // Runs body(begin, end, scratch) on all tiles of n atoms.
    template <typename Body>
    void for_tiles(int64_t n, const Body &body);

    void prepare(const Graph &graph, HaloExchange *exchange);
    void receive_messages(Between<T> &between, HaloExchange *exchange);
    void finish_forward(int64_t begin, int64_t end, Scratch<T> &scratch);
    void start_backward(int64_t begin, int64_t end, const WeightRows &weights, Scratch<T> &scratch);
    void backward_of_last(bool over, double *by_vectors, HaloExchange *exchange);
    void backward_of_middle(int64_t layer, bool over, double *by_vectors, HaloExchange *exchange);
    void backward_of_first(int64_t begin, int64_t end, const WeightRows &weights,
                           double *by_vectors, Scratch<T> &scratch);
    void add_repulsion_gradient(const EdgeList &edges, const WeightRows &weights,
                                double *by_vectors) const;
    // Charge transfer, where there is any: potentials of a tile, then what flows between all atoms;
    // and back.
    void find_potentials(int64_t begin, int64_t end, Scratch<T> &scratch);
    void transfer_forward(HaloExchange *exchange);
    void transfer_backward(const WeightRows &weights, double *by_vectors, HaloExchange *exchange);
    void differentiate_potentials(int64_t begin, int64_t end, Scratch<T> &scratch);
    Tensor travelling_ends(T *ends) const {
        return torch::from_blob(ends, {edges_.n_total(), 4, kTransferRow<T>},
                                c10::CppTypeToScalarType<T>::value)
            .narrow(2, 0, kTransferChannels);
    }
    Tensor travelling_rows(T *rows) const;
    // What came from other ranks has no padding; kernels read it all the same.
    void clear_padding_of_ghosts(T *rows, int64_t rows_per_atom, int64_t used, int64_t width) const;
    static T *place_for_gradients(Buffer<T> &values, Buffer<T> &beside, int64_t count, bool over);
    const T *as_they_were(const T *values, const T *by_values, int64_t begin, int64_t end,
                          Scratch<T> &scratch) const;

    int64_t feature_size() const { return n_components_ * channels_; }
    TileRows<T> feature_rows(T *features, int64_t atom) const {
        return {features + atom * feature_size(), feature_size(), channels_};
    }
    // Where the layer before a gap puts its results, or finds their gradients.
    UpdateRows<T> rows_out(int64_t gap, int64_t atom);
    UpdateRows<T> rows_back(int64_t gap, int64_t atom);

    int64_t n_layers_, n_components_, n_channels_, channels_;  // as in the model, and padded
    int64_t n_species_, n_variables_;
    int64_t scalar_width_;  // of one atom's scalars: messages of each degree, then its own
    std::unique_ptr<FirstLayer<T>> first_;
    std::vector<MiddleLayer<T>> middle_;
    std::optional<LastLayer<T>> last_;
    Readout<T> readout_;
    std::optional<Transfer<T>> transfer_;
    AtomOutputs outputs_;
    Repulsion repulsion_;

    // of the last forward pass
    EdgeIndex edges_;
    std::vector<Between<T>> between_;                // n_layers - 1
    std::vector<Buffer<T>> messages_, by_messages_;  // of middle layers
    // Scalars, which nothing needs after the readout, and then their gradients.
    Buffer<T> scalars_;
    Buffer<T> gains_, readout_outputs_;
    Buffer<uint8_t> repelled_;  // whether nuclei near an atom repel it
    TransferState<T> flow_;
    Tensor energies_, variables_;
    KeptTensor energy_memory_, variable_memory_, gradient_memory_;
    std::vector<Scratch<T>> scratch_;
};

template <typename T>
template <typename Body>
void NetworkOf<T>::for_tiles(int64_t n, const Body &body) {
    if (scratch_.size() < size_t(at::get_num_threads())) {
        scratch_.resize(at::get_num_threads());
    }
    const int64_t n_halves = (n + kHalfTile - 1) / kHalfTile, n_threads = at::get_num_threads();
    // Every thread begins with tiles of its own, which its cache may still hold, and then takes
    // what is left of others': no core waits for a slower one. The last tiles of several threads
    // are halves, so that all end together. Who works on a tile, and where tiles begin, changes
    // nothing.
    struct alignas(64) Share {
        std::atomic<int64_t> next{0};
        int64_t begin, n_whole, n_tiles;  // in halves; tiles
    };
    std::vector<Share> shares(n_threads);
    for (int64_t k = 0; k < n_threads; ++k) {
        Share &share = shares[k];
        share.begin = k * n_halves / n_threads;
        const int64_t count = (k + 1) * n_halves / n_threads - share.begin;
        share.n_whole = std::max<int64_t>(count - (n_threads > 1 ? 3 : 0), 0) / 2;
        share.n_tiles = count - share.n_whole;
    }
    at::parallel_for(0, std::min(n_threads, n_halves), 1, [&](int64_t, int64_t) {
        const int64_t own = at::get_thread_num();
        for (int64_t k = 0; k < n_threads; ++k) {
            Share &share = shares[(own + k) % n_threads];
            for (int64_t tile; (tile = share.next++) < share.n_tiles;) {
                const int64_t first = share.begin + tile + std::min(tile, share.n_whole);
                const int64_t end = first + (tile < share.n_whole ? 2 : 1);
                body(first * kHalfTile, std::min(end * kHalfTile, n), scratch_[own]);
            }
        }
    });
}

template <typename T>
void NetworkOf<T>::clear_padding_of_ghosts(T *rows, int64_t rows_per_atom, int64_t used,
                                           int64_t width) const {
    for (int64_t row = edges_.n_local() * rows_per_atom; row < edges_.n_total() * rows_per_atom;
         ++row) {
        std::fill_n(rows + row * width + used, width - used, T(0));
    }
}

// Features of all atoms, [n_total, M, channels], without the padding.
template <typename T>
Tensor NetworkOf<T>::travelling_rows(T *rows) const {
    return torch::from_blob(rows, {edges_.n_total(), n_components_, channels_},
                            c10::CppTypeToScalarType<T>::value)
        .narrow(2, 0, n_channels_);
}

}  // namespace equicalc::direct
