#include "direct/layers.h"

#include <algorithm>

namespace equicalc::direct {

using torch::Tensor;

namespace {

// Without the rows at the end that are padding, of which nothing comes.
Tensor rows_used(const Tensor &matrix) {
    int64_t count = matrix.size(0);
    while (count > 1 && !matrix[count - 1].any().item<bool>()) {
        --count;
    }
    return matrix.narrow(0, 0, count);
}

}  // namespace

template <typename T>
Mixing<T>::Mixing(const std::vector<Tensor> &matrices) {
    for (const Tensor &matrix : matrices) {
        forward_.emplace_back(rows_used(matrix));
        backward_.emplace_back(rows_used(matrix.t()));
    }
}

template <typename T>
void Mixing<T>::run(const std::vector<PackedMatrix<T>> &matrices, int64_t n_atoms,
                    TileRows<const T> in, TileRows<T> out, bool add, Scratch<T> &scratch) {
    for (int64_t degree = 0; degree < int64_t(matrices.size()); ++degree) {
        scratch.in.clear();
        scratch.out.clear();
        for (int64_t atom = 0; atom < n_atoms; ++atom) {
            for (int64_t m = degree * degree; m < (degree + 1) * (degree + 1); ++m) {
                scratch.in.push_back(in.data + atom * in.per_atom + m * in.per_row);
                scratch.out.push_back(out.data + atom * out.per_atom + m * out.per_row);
            }
        }
        kernels<T>().multiply(matrices[degree].view(), scratch.in.data(), scratch.out.data(),
                              int64_t(scratch.in.size()), add);
    }
}

template <typename T>
Powers<T>::Powers(const Parts &parts, const std::string &path, int64_t up_to_degree)
    : n_components_((parts.l_max + 1) * (parts.l_max + 1)), channels_(padded<T>(parts.channels)) {
    const int64_t order = parts.tensor(path + ".mixing.weights.0").size(0) / parts.channels;
    for (int64_t k = 0; k + 1 < order; ++k) {
        const bool last = k + 2 == order;
        couplings_.emplace_back(parts, path + ".couplings." + std::to_string(k),
                                last ? up_to_degree : parts.l_max, k == 0);
    }
}

template <typename T>
void Powers<T>::fill(int64_t n_atoms, const int64_t *species, bool with_highest, T *powers) const {
    const int64_t n_products = order() - (with_highest ? 1 : 2);
    for (int64_t atom = 0; atom < n_atoms; ++atom) {
        T *a = powers + atom * size();
        for (int64_t k = 0; k < n_products; ++k) {
            const PackedCoupling<T> &coupling = couplings_[k];
            const T *weight = coupling.weight.data() + species[atom] * coupling.n_weights;
            const Features<const T> power{a + k * channels_, width()}, first{a, width()};
            const Features<T> next{a + (k + 1) * channels_, width()};
            if (coupling.fixed != FixedCoupling::none) {
                kernels<T>().couple_fixed(coupling.fixed, channels_, weight, power, first, next);
            } else {
                kernels<T>().couple(coupling.values.view(), channels_, weight, power, first, next,
                                    false);
            }
        }
    }
}

template <typename T>
T *Powers<T>::start(int64_t n_atoms, const int64_t *species, const T *features, bool with_highest,
                    Scratch<T> &scratch) const {
    T *powers = scratch.powers.ensure(kTile * size());
    for (int64_t row = 0; row < n_atoms * n_components_; ++row) {
        std::copy_n(features + row * channels_, channels_, powers + row * width());
    }
    fill(n_atoms, species, with_highest, powers);
    return powers;
}

template <typename T>
void Powers<T>::differentiate(int64_t n_atoms, const int64_t *species, const T *powers,
                              T *by_powers, Scratch<T> &scratch) const {
    for (int64_t atom = 0; atom < n_atoms; ++atom) {
        const T *a = powers + atom * size();
        T *by_a = by_powers + atom * size();
        for (int64_t k = order() - 2; k >= 0; --k) {
            const PackedCoupling<T> &coupling = couplings_[k];
            const T *weight = coupling.weight.data() + species[atom] * coupling.n_weights;
            const Features<const T> grad{by_a + (k + 1) * channels_, width()};
            const Features<const T> power{a + k * channels_, width()}, first{a, width()};
            const Features<T> by_power{by_a + k * channels_, width()}, by_first{by_a, width()};
            if (coupling.fixed != FixedCoupling::none) {
                kernels<T>().couple_fixed_gradient(coupling.fixed, channels_, weight, grad, power,
                                                   first, by_power, by_first);
                continue;
            }
            const int64_t n_rows = int64_t(coupling.values.target.size());
            T *weighted = scratch.weighted.ensure(n_rows * channels_);
            const Features<const T> rows{weighted, channels_};
            kernels<T>().weigh_rows(coupling.values.view(), channels_, weight, grad, weighted);
            kernels<T>().couple(coupling.by_left.view(), channels_, nullptr, rows, first, by_power,
                                true);
            kernels<T>().couple(coupling.by_right.view(), channels_, nullptr, rows, power, by_first,
                                true);
        }
    }
}

template <typename T>
Readout<T>::Readout(const Parts &parts, int64_t n_groups)
    : width_(n_groups * padded<T>(parts.channels)) {
    const Tensor inner = parts.tensor("readout.inner.weight").t();
    const Tensor linear = parts.tensor("readout.linear.weight").t();
    const Tensor output = parts.tensor("readout.output.3.weight").t();
    hidden_ = padded<T>(inner.size(1));
    const auto pad_rows = [&](const Tensor &matrix) {
        return pad_groups(matrix, matrix.size(0), hidden_);
    };
    const Tensor both = torch::cat({pad_last(inner, hidden_), pad_last(linear, kOutputs)}, 1);
    const int64_t channels = parts.channels;
    first_ = Mixing<T>({pad_groups(both, channels, padded<T>(channels))});
    second_ = Mixing<T>({pad_last(pad_rows(parts.tensor("readout.output.1.weight").t()), hidden_)});
    third_ = Mixing<T>({pad_last(pad_rows(output), kOutputs)});
    species_bias_ = values_of<T>(pad_last(parts.tensor("readout.species_bias"), hidden_));
    bias_ = values_of<T>(pad_last(parts.tensor("readout.output.1.bias"), hidden_));
}

template <typename T>
void Readout<T>::evaluate(int64_t n_atoms, const int64_t *species, const T *scalars, T *gains,
                          T *outputs, Scratch<T> &scratch) const {
    const int64_t row = hidden_ + kOutputs;
    T *first = scratch.hidden.ensure(n_atoms * (row + hidden_));
    T *second = first + n_atoms * row;
    first_.apply(n_atoms, {scalars, width_, 0}, {first, row, 0}, false, scratch);
    for (int64_t atom = 0; atom < n_atoms; ++atom) {
        T *hidden = first + atom * row;
        const T *bias = species_bias_.data() + species[atom] * hidden_;
        for (int64_t k = 0; k < hidden_; ++k) {
            hidden[k] += bias[k];
        }
        kernels<T>().silu(hidden, gains + atom * n_gains(), hidden_);
        std::copy_n(hidden + hidden_, kOutputs, outputs + atom * kOutputs);
        std::copy_n(bias_.data(), hidden_, second + atom * hidden_);
    }
    second_.apply(n_atoms, {first, row, 0}, {second, hidden_, 0}, true, scratch);
    for (int64_t atom = 0; atom < n_atoms; ++atom) {
        kernels<T>().silu(second + atom * hidden_, gains + atom * n_gains() + hidden_, hidden_);
    }
    third_.apply(n_atoms, {second, hidden_, 0}, {outputs, kOutputs, 0}, true, scratch);
}

template <typename T>
void Readout<T>::differentiate(int64_t n_atoms, const T *by_outputs, const T *gains, T *by_scalars,
                               Scratch<T> &scratch) const {
    const int64_t row = hidden_ + kOutputs;
    T *first = scratch.hidden.ensure(n_atoms * (row + hidden_));
    T *second = first + n_atoms * row;
    third_.apply_transposed(n_atoms, {by_outputs, kOutputs, 0}, {second, hidden_, 0}, false,
                            scratch);
    for (int64_t atom = 0; atom < n_atoms; ++atom) {
        kernels<T>().scale(second + atom * hidden_, gains + atom * n_gains() + hidden_, hidden_);
    }
    second_.apply_transposed(n_atoms, {second, hidden_, 0}, {first, row, 0}, false, scratch);
    for (int64_t atom = 0; atom < n_atoms; ++atom) {
        kernels<T>().scale(first + atom * row, gains + atom * n_gains(), hidden_);
        std::copy_n(by_outputs + atom * kOutputs, kOutputs, first + atom * row + hidden_);
    }
    first_.apply_transposed(n_atoms, {first, row, 0}, {by_scalars, width_, 0}, false, scratch);
}

#define EQUICALC_INSTANTIATE(T) \
    template class Mixing<T>;   \
    template class Powers<T>;   \
    template class Readout<T>;

EQUICALC_INSTANTIATE(float)
EQUICALC_INSTANTIATE(double)

#undef EQUICALC_INSTANTIATE

}  // namespace equicalc::direct
