#include "direct/message_passing.h"

#include <algorithm>

namespace equicalc::direct {
namespace {

using torch::Tensor;

// Elements up to which sums over neighbours are kept apart by species.
constexpr int64_t kSeparateSpecies = 8;

double message_scale(const Parts &parts) { return parts.tensor("message_scale").item<double>(); }

// Whether sums are kept apart by species, or in learned mixtures of them.
bool separate_species(const Parts &parts, int64_t n_kinds) {
    return parts.n_species <= std::max(kSeparateSpecies, n_kinds);
}

// From sums over neighbours to the first messages, for each degree.
template <typename T>
std::vector<Tensor> mixing_of_sums(const Parts &parts, int64_t n_functions, int64_t n_radial) {
    const Tensor embedding = parts.tensor("first.convolution.embedding");
    std::vector<Tensor> mixing = parts.per_degree("first.convolution.mixing.weights");
    for (Tensor &matrix : mixing) {
        const Tensor by_kind = matrix.view({embedding.size(1), n_functions, parts.channels});
        Tensor blocks = separate_species(parts, embedding.size(1))
                            ? torch::einsum("sk,kbc->sbc", {embedding, by_kind})
                            : by_kind;
        blocks = torch::constant_pad_nd(blocks, {0, 0, 0, n_radial - n_functions});
        const int64_t width = blocks.size(0) * n_radial;
        matrix = torch::constant_pad_nd(blocks.reshape({width, parts.channels}),
                                        {0, 0, 0, padded<T>(width) - width});
    }
    return mixing;
}

// From the same sums to what is linear in the messages after the product. Nothing where there are
// as many numbers in a sum as channels, or no powers beside the first.
std::vector<Tensor> linear_in_sums(const Parts &parts, std::vector<Tensor> mixing) {
    const std::vector<Tensor> product = parts.per_degree("first.product.mixing.weights");
    if (mixing[0].size(0) >= parts.channels || product[0].size(0) == parts.channels) {
        return {};
    }
    for (size_t degree = 0; degree < mixing.size(); ++degree) {
        mixing[degree] = mixing[degree].mm(product[degree].narrow(0, 0, parts.channels));
    }
    return mixing;
}

}  // namespace

// ---- first layer -------------------------------------------------------------------------------

template <typename T>
FirstLayer<T>::FirstLayer(const Parts &parts, const std::string &next, bool next_skips)
    : n_components_((parts.l_max + 1) * (parts.l_max + 1)),
      channels_(padded<T>(parts.channels)),
      radial_(parts, "first.radial", message_scale(parts)),
      update_([&] {
          const std::vector<Tensor> mixing =
              mixing_of_sums<T>(parts, radial_.n_functions(), radial_.n_radial());
          sum_.width = mixing[0].size(0);
          mixing_ = Mixing<T>(mixing);
          const std::vector<Tensor> linear = linear_in_sums(parts, mixing);
          return Update<T>(parts, "first.product", linear, !linear.empty(), next, next_skips);
      }()) {
    const Tensor embedding = parts.tensor("first.convolution.embedding");
    sum_.layout = {parts.l_max, radial_.n_radial()};
    if (!separate_species(parts, embedding.size(1))) {
        embedding_ = values_of<T>(embedding);
        sum_.n_kinds = embedding.size(1);
        sum_.embedding = embedding_.data();
    }
    const Tensor own = parts.tensor("first.own");
    own_scalars_ = values_of<T>(pad_last(own, channels_));
    if (!next.empty()) {
        own_messages_ = values_of<T>(pad_last(own.mm(parts.tensor(next + ".0")), channels_));
    }
}

template <typename T>
T *FirstLayer<T>::powers_of(const EdgeIndex &edges, int64_t begin, int64_t end, bool with_highest,
                            Scratch<T> &scratch) const {
    const EdgeList list = edges.of_receivers(begin, end);
    const T *records = find_records(radial_.view(), sum_.layout, list, scratch);
    scratch.species.resize(list.count);
    for (int64_t k = 0; k < list.count; ++k) {
        scratch.species[k] = edges.species(edges.sender(list[k]));
    }
    const int64_t sum_size = n_components_ * sum_.width, n = end - begin;
    T *sums = scratch.sums.ensure(kTile * sum_size);
    for (int64_t i = begin; i < end; ++i) {
        const int64_t first = edges.start(i) - edges.start(begin);
        kernels<T>().species_sum(
            sum_, records + first * sum_.layout.width(), scratch.species.data() + first,
            edges.start(i + 1) - edges.start(i), sums + (i - begin) * sum_size);
    }
    const Powers<T> &all = update_.powers();
    T *powers = scratch.powers.ensure(kTile * all.size());
    mixing_.apply(n, {sums, sum_size, sum_.width}, {powers, all.size(), all.width()}, false,
                  scratch);
    all.fill(n, edges.species() + begin, with_highest, powers);
    return powers;
}

template <typename T>
void FirstLayer<T>::forward(const EdgeIndex &edges, int64_t begin, int64_t end,
                            const UpdateRows<T> &to, Scratch<T> &scratch) const {
    const T *powers = powers_of(edges, begin, end, true, scratch);
    const TileRows<T> sums = sums_of(scratch);
    update_.forward(end - begin, powers, {sums.data, sums.per_atom, sums.per_row}, to, scratch);
    const auto add = [&](const std::vector<T> &own, const TileRows<T> &rows) {
        for (int64_t i = begin; rows.data && i < end; ++i) {
            const T *from = own.data() + edges.species(i) * channels_;
            T *target = rows.data + (i - begin) * rows.per_atom;
            for (int64_t c = 0; c < channels_; ++c) {
                target[c] += from[c];
            }
        }
    };
    add(own_scalars_, to.scalars);
    add(own_scalars_, to.features);
    add(own_messages_, to.messages);
}

template <typename T>
void FirstLayer<T>::backward(const EdgeIndex &edges, int64_t begin, int64_t end,
                             const UpdateRows<T> &by, double *by_vectors, bool add,
                             Scratch<T> &scratch) const {
    const int64_t n = end - begin, sum_size = n_components_ * sum_.width;
    const T *powers = powers_of(edges, begin, end, false, scratch);
    const Powers<T> &all = update_.powers();
    T *by_powers = scratch.by_powers.ensure(kTile * all.size());
    update_.backward(n, by, by_powers, sums_of(scratch), scratch);  // over the sums
    all.differentiate(n, edges.species() + begin, powers, by_powers, scratch);
    const T *by_sums = scratch.sums.data();
    mixing_.apply_transposed(n, {by_powers, all.size(), all.width()}, sums_of(scratch),
                             update_.has_skip(), scratch);
    const EdgeList list = edges.of_receivers(begin, end);
    const T *records = scratch.records.data();
    T *gradients = scratch.gradients.ensure(list.count * sum_.layout.gradient_width());
    for (int64_t i = begin; i < end; ++i) {
        const int64_t first = edges.start(i) - edges.start(begin);
        kernels<T>().species_sum_gradient(
            sum_, records + first * sum_.layout.width(), scratch.species.data() + first,
            edges.start(i + 1) - edges.start(i), by_sums + (i - begin) * sum_size,
            gradients + first * sum_.layout.gradient_width());
    }
    kernels<T>().edge_gradients(sum_.layout, list, records, gradients, by_vectors, add);
}

// ---- middle layers -----------------------------------------------------------------------------

template <typename T>
MiddleLayer<T>::MiddleLayer(const Parts &parts, const std::string &path, const std::string &next,
                            bool next_skips)
    : n_components_((parts.l_max + 1) * (parts.l_max + 1)),
      channels_(padded<T>(parts.channels)),
      radial_(parts, path + ".radial", message_scale(parts)),
      convolution_(parts, path + ".convolution", radial_.n_radial()),
      update_(parts, path + ".product", parts.per_degree(path + ".skip.weights"), false, next,
              next_skips) {}

template <typename T>
void MiddleLayer<T>::forward(const EdgeIndex &edges, int64_t begin, int64_t end, const T *x,
                             TileRows<const T> before, T *messages, const UpdateRows<T> &to,
                             Scratch<T> &scratch) const {
    const FullConvolution<T> &convolution = convolution_.view();
    const EdgeList list = edges.of_receivers(begin, end);
    const T *records = find_records(radial_.view(), convolution.layout, list, scratch);
    const int64_t size = n_components_ * channels_;
    find_ends(edges, list, size, size, scratch);
    std::fill_n(messages + begin * size, (end - begin) * size, T(0));
    kernels<T>().full_messages(convolution, records, list.count, x, scratch.offset.data(), messages,
                               scratch.target.data(), scratch.radial.ensure(convolution.scratch()));
    T *powers = update_.powers().start(end - begin, edges.species() + begin,
                                       messages + begin * size, true, scratch);
    update_.forward(end - begin, powers, before, to, scratch);
}

template <typename T>
void MiddleLayer<T>::backward_on_atoms(const EdgeIndex &edges, int64_t begin, int64_t end,
                                       const T *messages, const UpdateRows<T> &by, T *by_messages,
                                       TileRows<T> by_before, Scratch<T> &scratch) const {
    const int64_t n = end - begin, size = n_components_ * channels_;
    const Powers<T> &all = update_.powers();
    const T *powers =
        all.start(n, edges.species() + begin, messages + begin * size, false, scratch);
    T *by_powers = scratch.by_powers.ensure(kTile * all.size());
    update_.backward(n, by, by_powers, by_before, scratch);
    all.differentiate(n, edges.species() + begin, powers, by_powers, scratch);
    for (int64_t row = 0; row < n * n_components_; ++row) {
        std::copy_n(by_powers + row * all.width(), channels_,
                    by_messages + begin * size + row * channels_);
    }
}

template <typename T>
void MiddleLayer<T>::backward_on_senders(const EdgeIndex &edges, int64_t begin, int64_t end,
                                         const T *x, const T *by_messages, T *by_x,
                                         double *by_vectors, Scratch<T> &scratch) const {
    const FullConvolution<T> &convolution = convolution_.view();
    const EdgeList list = edges.of_senders(begin, end);
    const T *records = find_records(radial_.view(), convolution.layout, list, scratch);
    const int64_t size = n_components_ * channels_;
    find_ends(edges, list, size, size, scratch);
    std::fill_n(by_x + begin * size, (end - begin) * size, T(0));
    T *gradients = scratch.gradients.ensure(list.count * convolution.layout.gradient_width());
    kernels<T>().full_messages_gradient(convolution, records, list.count, x, by_x,
                                        scratch.offset.data(), by_messages, scratch.target.data(),
                                        gradients, scratch.radial.ensure(convolution.scratch()));
    kernels<T>().edge_gradients(convolution.layout, list, records, gradients, by_vectors, true);
}

// ---- last layer --------------------------------------------------------------------------------

template <typename T>
LastLayer<T>::LastLayer(const Parts &parts)
    : n_components_((parts.l_max + 1) * (parts.l_max + 1)),
      channels_(padded<T>(parts.channels)),
      radial_(parts, "last.radial", message_scale(parts)) {
    const int64_t n_degrees = parts.l_max + 1;
    const Tensor norm =
        (2 * torch::arange(n_degrees, torch::kFloat64) + 1).rsqrt().view({1, n_degrees, 1});
    const Tensor weight = parts.tensor("last.convolution.weight")
                              .view({radial_.n_functions(), n_degrees, parts.channels});
    weights_ = PackedMatrix<T>(
        torch::constant_pad_nd(pad_last(weight * norm, channels_),
                               {0, 0, 0, 0, 0, radial_.n_radial() - radial_.n_functions()})
            .reshape({radial_.n_radial(), n_degrees * channels_}));
    convolution_ = {{parts.l_max, radial_.n_radial()}, channels_, weights_.view()};
}

template <typename T>
void LastLayer<T>::forward(const EdgeIndex &edges, int64_t begin, int64_t end, const T *x,
                           T *scalars, int64_t width, Scratch<T> &scratch) const {
    const EdgeList list = edges.of_receivers(begin, end);
    const T *records = find_records(radial_.view(), convolution_.layout, list, scratch);
    find_ends(edges, list, n_components_ * channels_, width, scratch);
    for (int64_t i = begin; i < end; ++i) {
        std::fill_n(scalars + i * width, convolution_.weights.n, T(0));
    }
    kernels<T>().scalar_messages(convolution_, records, list.count, x, scratch.offset.data(),
                                 scalars, scratch.target.data(),
                                 scratch.radial.ensure(convolution_.scratch()));
}

template <typename T>
void LastLayer<T>::backward_on_senders(const EdgeIndex &edges, int64_t begin, int64_t end,
                                       const T *x, const T *by_scalars, int64_t width, T *by_x,
                                       double *by_vectors, Scratch<T> &scratch) const {
    const EdgeList list = edges.of_senders(begin, end);
    const T *records = find_records(radial_.view(), convolution_.layout, list, scratch);
    const int64_t size = n_components_ * channels_;
    find_ends(edges, list, size, width, scratch);
    std::fill_n(by_x + begin * size, (end - begin) * size, T(0));
    T *gradients = scratch.gradients.ensure(list.count * convolution_.layout.gradient_width());
    kernels<T>().scalar_messages_gradient(convolution_, records, list.count, x, by_x,
                                          scratch.offset.data(), by_scalars, scratch.target.data(),
                                          gradients, scratch.radial.ensure(convolution_.scratch()));
    kernels<T>().edge_gradients(convolution_.layout, list, records, gradients, by_vectors, false);
}

#define EQUICALC_INSTANTIATE(T)    \
    template class FirstLayer<T>;  \
    template class MiddleLayer<T>; \
    template class LastLayer<T>;

EQUICALC_INSTANTIATE(float)
EQUICALC_INSTANTIATE(double)

#undef EQUICALC_INSTANTIATE

}  // namespace equicalc::direct
