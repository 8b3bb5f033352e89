// equicalc::irreps_linear: channel mixing of features with irregular irreps, for evaluation. Blocks
// are multiplied where they lie in the rows of features: nothing is copied.
#include "operators/irreps_linear.h"

#include "operators/fused_ops.h"
#include "operators/matrix_kernels.h"

#include <algorithm>
#include <optional>

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Atoms whose rows stay in the cache while all blocks are multiplied; a multiple of all tiles.
template <typename T>
constexpr int64_t kAtoms = sizeof(T) == sizeof(float) ? 48 : 24;

}  // namespace

std::vector<Pair> read_pairs(const Tensor &table, bool transposed) {
    std::vector<Pair> pairs;
    const Tensor rows = on_host(table);
    const int64_t *row = rows.data_ptr<int64_t>();
    for (int64_t k = 0; k < rows.size(0); ++k, row += 6) {
        const int64_t n_components = 2 * row[2] + 1;
        pairs.push_back(transposed ? Pair{row[1], row[0], n_components, row[4], row[3], row[5]}
                                   : Pair{row[0], row[1], n_components, row[3], row[4], row[5]});
    }
    return pairs;
}

Tensor transpose(const Tensor &weight, const Tensor &table) {
    Tensor result = torch::empty_like(weight);
    for (const Pair &pair : read_pairs(table, false)) {
        const int64_t size = pair.n_in * pair.n_out;
        result.narrow(0, pair.weight, size)
            .view({pair.n_out, pair.n_in})
            .copy_(weight.narrow(0, pair.weight, size).view({pair.n_in, pair.n_out}).t());
    }
    return result;
}

namespace {

// Columns of a row that may differ from zero: all that is added lies in them.
struct Columns {
    int64_t begin = 0, end = 0;
};

template <typename T>
Columns nonzero_columns(const T *row, int64_t width) {
    const auto is_nonzero = [](T value) { return value != T(0); };
    const T *first = std::find_if(row, row + width, is_nonzero);
    const T *last = row + width;
    while (last > first && !is_nonzero(last[-1])) {
        --last;
    }
    return {first - row, last - row};
}

template <typename T>
void add_row(const T *row, const Columns &columns, int64_t n_atoms, int64_t width, T *out) {
    for (int64_t atom = 0; atom < n_atoms; ++atom, out += width) {
        for (int64_t k = columns.begin; k < columns.end; ++k) {
            out[k] += row[k];
        }
    }
}

template <typename T>
void mix(const Tensor &x, const Tensor &weight, const std::vector<Pair> &pairs, const Tensor &row,
         Tensor &out) {
    const int64_t in_row = x.size(1), out_row = out.size(1);
    const T *added = row.defined() ? row.const_data_ptr<T>() : nullptr;
    const Columns columns = added ? nonzero_columns(added, out_row) : Columns{};
    at::parallel_for(
        0, (x.size(0) + kAtoms<T> - 1) / kAtoms<T>, 1, [&](int64_t begin, int64_t end) {
            std::vector<int64_t> written;
            for (int64_t block = begin; block < end; ++block) {
                const int64_t first = block * kAtoms<T>;
                const int64_t n_atoms = std::min(kAtoms<T>, x.size(0) - first);
                written.clear();
                for (const Pair &pair : pairs) {
                    const bool add =
                        std::find(written.begin(), written.end(), pair.out) != written.end();
                    written.push_back(pair.out);
                    kernels::multiply(
                        kernels::ComponentProduct<T>{
                            x.const_data_ptr<T>() + first * in_row + pair.in, in_row, pair.n_in,
                            out.mutable_data_ptr<T>() + first * out_row + pair.out, out_row,
                            pair.n_out, weight.const_data_ptr<T>() + pair.weight, pair.n_components,
                            add},
                        n_atoms);
                }
                add_row(added, columns, n_atoms, out_row,
                        out.mutable_data_ptr<T>() + first * out_row);
            }
        });
}

// Error unless all blocks lie in rows of these widths and in the weights.
void check_blocks(const std::vector<Pair> &pairs, int64_t width_in, int64_t width_out,
                  int64_t n_weights) {
    int64_t in = 0, out = 0, weights = 0;
    for (const Pair &pair : pairs) {
        in = std::max(in, pair.in + pair.n_components * pair.n_in);
        out = std::max(out, pair.out + pair.n_components * pair.n_out);
        weights = std::max(weights, pair.weight + pair.n_in * pair.n_out);
    }
    TORCH_CHECK(in <= width_in && out <= width_out && weights <= n_weights,
                "equicalc: a linear map of irreps takes rows of ", in, " features to rows of ", out,
                " with ", weights, " weights, found ", width_in, ", ", width_out, " and ",
                n_weights);
}

// The same with products of torch: on the device its matrices are the fast ones.
Tensor mixed_by_products(const Tensor &x, const Tensor &weight, const std::vector<Pair> &pairs,
                         const Tensor &row, int64_t width) {
    const int64_t n = x.size(0);
    Tensor out = row.defined() ? row.repeat({n, 1}) : torch::zeros({n, width}, x.options());
    for (const Pair &pair : pairs) {
        // components as a batch, so that nothing is copied
        const auto block = [&](const Tensor &rows, int64_t first, int64_t channels) {
            return rows.as_strided({pair.n_components, n, channels}, {channels, rows.size(1), 1},
                                   rows.storage_offset() + first);
        };
        const Tensor matrix = weight.narrow(0, pair.weight, pair.n_in * pair.n_out)
                                  .view({pair.n_in, pair.n_out})
                                  .expand({pair.n_components, pair.n_in, pair.n_out});
        block(out, pair.out, pair.n_out).baddbmm_(block(x, pair.in, pair.n_in), matrix);
    }
    return out;
}

}  // namespace

Tensor mixed(const Tensor &x, const Tensor &weight, const std::vector<Pair> &pairs,
             const Tensor &row, int64_t width) {
    check_blocks(pairs, x.size(1), width, weight.numel());
    if (uses_groups(x)) {
        return mixed_by_products(x, weight, pairs, row, width);
    }
    int64_t covered = 0;
    std::vector<int64_t> written;
    for (const Pair &pair : pairs) {
        if (std::find(written.begin(), written.end(), pair.out) == written.end()) {
            covered += pair.n_components * pair.n_out;
            written.push_back(pair.out);
        }
    }
    // Where no block flows in there are zeros.
    Tensor out = covered == width ? torch::empty({x.size(0), width}, x.options())
                                  : torch::zeros({x.size(0), width}, x.options());
    EQUICALC_DISPATCH(x.scalar_type(), "irreps_linear",
                      [&] { mix<scalar_t>(x, weight, pairs, row, out); });
    return out;
}

namespace {

Tensor irreps_linear_forward(const Tensor &x, const Tensor &weight, const Tensor &,
                             const Tensor &table, int64_t width,
                             const std::optional<Tensor> &bias) {
    check_like(weight, x, "weights");
    TORCH_CHECK(x.dim() == 2, "equicalc: irreps_linear takes features [n, width], found ",
                x.sizes());
    Tensor row;
    if (bias) {
        check_like(*bias, x, "the bias");
        TORCH_CHECK(bias->dim() == 1 && bias->size(0) == width,
                    "equicalc: irreps_linear takes a bias [", width, "], found ", bias->sizes());
        row = bias->contiguous();
    }
    return mixed(x.contiguous(), weight.contiguous(), read_pairs(table, false), row, width);
}

Tensor irreps_linear_backward(const Tensor &grad, const Tensor &weight, const Tensor &transposed,
                              const Tensor &table, int64_t width) {
    const Tensor matrices =
        transposed.numel() == weight.numel() ? transposed.contiguous() : transpose(weight, table);
    return mixed(grad.contiguous(), matrices, read_pairs(table, true), Tensor(), width);
}

// Both ways go through the dispatcher, where tracers of torch.export see one operator.
struct IrrepsLinear : torch::autograd::Function<IrrepsLinear> {
    static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &weight,
                          const Tensor &transposed, const Tensor &table, int64_t width,
                          const std::optional<Tensor> &bias) {
        static const auto op =
            operator_of<decltype(irreps_linear_forward)>("equicalc::irreps_linear");
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({weight, transposed, table});
        context->saved_data["width"] = x.sym_size(1).guard_int(__FILE__, __LINE__);
        return op.call(x, weight, transposed, table, width, bias);
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        refuse_second_derivative("irreps_linear");
        static const auto op =
            operator_of<decltype(irreps_linear_backward)>("equicalc::irreps_linear_backward");
        const auto saved = context->get_saved_variables();
        variable_list result(6);
        result[0] =
            op.call(grads[0], saved[0], saved[1], saved[2], context->saved_data["width"].toInt());
        return result;
    }
};

Tensor irreps_linear(const Tensor &x, const Tensor &weight, const Tensor &transposed,
                     const Tensor &pairs, int64_t width, const std::optional<Tensor> &bias) {
    TORCH_CHECK(!weight.requires_grad() && !(bias && bias->requires_grad()),
                "equicalc: irreps_linear has no gradient of its weights; set fused = False on the "
                "modules of equicalc.nn to train them");
    return IrrepsLinear::apply(x, weight, transposed, pairs, width, bias);
}

Tensor irreps_linear_meta(const Tensor &x, const Tensor &, const Tensor &, const Tensor &,
                          int64_t width, const std::optional<Tensor> &) {
    return at::empty_symint({x.sym_size(0), width}, x.options());
}

Tensor irreps_linear_backward_meta(const Tensor &grad, const Tensor &, const Tensor &,
                                   const Tensor &, int64_t width) {
    return at::empty_symint({grad.sym_size(0), width}, grad.options());
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def(
        "irreps_linear(Tensor x, Tensor weight, Tensor transposed, Tensor pairs, int width, "
        "Tensor? bias=None) -> Tensor");
    library.def(
        "irreps_linear_backward(Tensor grad, Tensor weight, Tensor transposed, Tensor pairs, "
        "int width) -> Tensor");
}

EQUICALC_REGISTER_KERNELS(irreps_linear, irreps_linear_forward)
EQUICALC_REGISTER_AUTOGRAD(irreps_linear, irreps_linear)
EQUICALC_REGISTER(irreps_linear, irreps_linear_meta, Meta)
EQUICALC_REGISTER_KERNELS(irreps_linear_backward, irreps_linear_backward)
EQUICALC_REGISTER(irreps_linear_backward, irreps_linear_backward_meta, Meta)

}  // namespace equicalc
