#include "direct/transfer.h"

#include <algorithm>

namespace equicalc::direct {

using torch::Tensor;

template <typename T>
Transfer<T>::Transfer(const Parts &parts)
    : has_vectors_(parts.l_max > 0),
      radial_(parts, "charge_head.radial", parts.number("charge_head.scale")) {
    if (radial_.n_functions() != kTransferChannels) {
        throw Error("equicalc: the network transfers charge through " +
                    std::to_string(radial_.n_functions()) + " functions, expected " +
                    std::to_string(kTransferChannels) +
                    ". It was written by another version of equicalc; export the model again");
    }
    layout_ = {0, radial_.n_radial()};
    const Tensor inner = parts.tensor("charge_head.scalars.0.weight").t();
    const Tensor outer = parts.tensor("charge_head.scalars.2.weight").t();
    hidden_ = padded<T>(inner.size(1));
    first_ =
        Mixing<T>({pad_groups(pad_last(inner, hidden_), inner.size(0), padded<T>(inner.size(0)))});
    second_ = Mixing<T>({pad_groups(pad_last(outer, kTransferRow<T>), outer.size(0), hidden_)});
    species_potentials_ =
        values_of<T>(pad_last(parts.tensor("charge_head.species_scalars"), kTransferRow<T>));
}

template <typename T>
void Transfer<T>::potentials(int64_t n_atoms, const int64_t *species, TileRows<const T> scalars,
                             T *gains, T *ends, Scratch<T> &scratch) const {
    T *hidden = scratch.hidden.ensure(n_atoms * hidden_);
    first_.apply(n_atoms, scalars, {hidden, hidden_, 0}, false, scratch);
    kernels<T>().silu(hidden, gains, n_atoms * hidden_);
    for (int64_t atom = 0; atom < n_atoms; ++atom) {
        const T *own = species_potentials_.data() + species[atom] * kTransferRow<T>;
        std::copy_n(own, kTransferRow<T>, ends + atom * kSize);
        if (!has_vectors_) {
            std::fill_n(ends + atom * kSize + kTransferRow<T>, 3 * kTransferRow<T>, T(0));
        }
    }
    second_.apply(n_atoms, {hidden, hidden_, 0}, {ends, kSize, 0}, true, scratch);
}

template <typename T>
void Transfer<T>::differentiate_potentials(int64_t n_atoms, const T *by_ends, const T *gains,
                                           TileRows<T> by_scalars, Scratch<T> &scratch) const {
    T *hidden = scratch.hidden.ensure(n_atoms * hidden_);
    second_.apply_transposed(n_atoms, {by_ends, kSize, 0}, {hidden, hidden_, 0}, false, scratch);
    kernels<T>().scale(hidden, gains, n_atoms * hidden_);
    first_.apply_transposed(n_atoms, {hidden, hidden_, 0}, by_scalars, true, scratch);
}

template <typename T>
void Transfer<T>::forward(const EdgeIndex &edges, int64_t begin, int64_t end, const T *ends,
                          double *variables, Scratch<T> &scratch) const {
    const EdgeList list = edges.of_receivers(begin, end);
    const T *records = find_records(radial_.view(), layout_, list, scratch);
    find_ends(edges, list, kSize, 0, scratch);
    for (int64_t i = begin; i < end; ++i) {
        const int64_t first = edges.start(i) - edges.start(begin);
        kernels<T>().transfer(layout_, edges.of_receivers(i, i + 1),
                              records + first * layout_.width(), ends + i * kSize, ends,
                              scratch.offset.data() + first, variables + i * kVariables);
    }
}

template <typename T>
void Transfer<T>::backward_on_receivers(const EdgeIndex &edges, int64_t begin, int64_t end,
                                        const T *ends, const double *by_variables, T *by_ends,
                                        double *by_vectors, bool add, Scratch<T> &scratch) const {
    const EdgeList list = edges.of_receivers(begin, end);
    const T *records = find_records(radial_.view(), layout_, list, scratch);
    find_ends(edges, list, kSize, 0, scratch);
    for (int64_t i = begin; i < end; ++i) {
        const int64_t first = edges.start(i) - edges.start(begin);
        kernels<T>().transfer_gradient(layout_, edges.of_receivers(i, i + 1),
                                       records + first * layout_.width(), ends + i * kSize, ends,
                                       scratch.offset.data() + first, by_variables + i * kVariables,
                                       by_ends + i * kSize, by_vectors, add);
    }
}

template <typename T>
void Transfer<T>::backward_on_senders(const EdgeIndex &edges, int64_t begin, int64_t end,
                                      const double *by_variables, T *by_ends,
                                      Scratch<T> &scratch) const {
    const EdgeList all = edges.of_senders(begin, end);
    const T *records = find_records(radial_.view(), layout_, all, scratch);
    find_ends(edges, all, 0, kVariables, scratch);
    int64_t first = 0;
    for (int64_t j = begin; j < end; ++j) {
        const EdgeList list = edges.of_senders(j, j + 1);
        kernels<T>().transfer_gradient_on_sender(layout_, list, records + first * layout_.width(),
                                                 by_variables, scratch.target.data() + first,
                                                 by_ends + j * kSize);
        first += list.count;
    }
}

template class Transfer<float>;
template class Transfer<double>;

}  // namespace equicalc::direct
