// equicalc::couple(a [n, M, C], b [n, M, C], species [n], weight [S, P, C], tables) -> [n, M, C]
#include "operators/coupling_kernels.h"
#include "cuda/coupling.h"
#include "operators/fused_ops.h"
#include "operators/op_checks.h"

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Which components meet: constants of a network, see equicalc/nn/product.py.
struct Tables {
    Tensor rows, terms, coefficients;
};

template <typename T>
kernels::Coupling<T> coupling_problem(const Tensor &a, const Tensor &b, const Tensor &species,
                                      const Tensor &weight, const Tables &tables) {
    const int64_t n_rows = tables.rows.size(1), n_terms = tables.terms.size(1);
    const int64_t *row = tables.rows.data_ptr<int64_t>(), *term = tables.terms.data_ptr<int64_t>();
    return {a.size(1),
            a.size(2),
            n_rows - 1,
            weight.size(1),
            row,
            row + n_rows,
            row + 2 * n_rows,
            term,
            term + n_terms,
            tables.coefficients.data_ptr<T>(),
            a.data_ptr<T>(),
            b.data_ptr<T>(),
            weight.data_ptr<T>(),
            species.data_ptr<int64_t>()};
}

// Gradients of the weights of nodes, [n, P, C], to those of the weights of species.
Tensor on_species(const Tensor &on_nodes, const Tensor &species, const Tensor &weight) {
    if (uses_groups(weight)) {
        // a product, because additions by index come in any order on the device
        const Tensor is_species =
            torch::arange(weight.size(0), species.options()).unsqueeze(1).eq(species);
        return is_species.to(weight.scalar_type()).mm(on_nodes.flatten(1)).view_as(weight);
    }
    Tensor sums = torch::zeros_like(weight);
    const int64_t width = weight[0].numel();
    const int64_t *kind = species.data_ptr<int64_t>();
    EQUICALC_DISPATCH(weight.scalar_type(), "couple_species", [&] {
        const auto *from = on_nodes.data_ptr<scalar_t>();
        auto *to = sums.data_ptr<scalar_t>();
        // by columns, so that every sum has one order whatever the number of threads
        at::parallel_for(0, width, kGrain * kGrain, [&](int64_t begin, int64_t end) {
            for (int64_t n = 0; n < species.numel(); ++n) {
                for (int64_t k = begin; k < end; ++k) {
                    to[kind[n] * width + k] += from[n * width + k];
                }
            }
        });
    });
    return sums;
}

// Inputs (a, b, weight, grad), outputs (dL/da, dL/db) and, with need_weight, dL/dweight.
struct CoupleGradient : torch::autograd::Function<CoupleGradient> {
    static variable_list forward(AutogradContext *context, const Tensor &a, const Tensor &b,
                                 const Tensor &weight, const Tensor &grad, const Tensor &species,
                                 const Tensor &rows, const Tensor &terms,
                                 const Tensor &coefficients, bool need_weight) {
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({a, b, weight, grad, species, rows, terms, coefficients});
        Tensor da = torch::empty_like(a), db = torch::empty_like(b), dw;
        if (need_weight) {
            dw = torch::empty({a.size(0), weight.size(1), weight.size(2)}, a.options());
        }
        EQUICALC_DISPATCH(a.scalar_type(), "couple_backward", [&] {
            const auto problem =
                coupling_problem<scalar_t>(a, b, species, weight, {rows, terms, coefficients});
            const kernels::CouplingGradients<scalar_t> to{
                da.data_ptr<scalar_t>(), db.data_ptr<scalar_t>(),
                need_weight ? dw.data_ptr<scalar_t>() : nullptr};
            if (uses_groups(a)) {
                run_groups(
                    a, groups::CouplingBackward<scalar_t>{problem, grad.data_ptr<scalar_t>(), to},
                    groups::n_coupling_items(a.size(0), a.size(2)));
                return;
            }
            at::parallel_for(0, a.size(0), kGrain, [&](int64_t begin, int64_t end) {
                kernels::couple_backward(problem, begin, end, grad.data_ptr<scalar_t>(), to);
            });
        });
        if (need_weight) {
            return {da, db, on_species(dw, species, weight)};
        }
        return {da, db};
    }

    static variable_list backward(AutogradContext *context, const variable_list &tangents) {
        refuse_third_derivative("couple");
        const auto saved = context->get_saved_variables();
        const Tensor &a = saved[0], &b = saved[1], &weight = saved[2], &grad = saved[3];
        const Tensor &species = saved[4];
        const Tensor ta = tangents[0].contiguous(), tb = tangents[1].contiguous();
        Tensor tw;
        if (tangents.size() > 2) {
            tw = tangents[2].index_select(0, species).contiguous();
        }
        Tensor da = torch::empty_like(a), db = torch::empty_like(b), dg = torch::empty_like(grad);
        Tensor dw = torch::empty({a.size(0), weight.size(1), weight.size(2)}, a.options());
        EQUICALC_DISPATCH(a.scalar_type(), "couple_second", [&] {
            const auto problem =
                coupling_problem<scalar_t>(a, b, species, weight, {saved[5], saved[6], saved[7]});
            const kernels::CouplingTangents<scalar_t> along{
                ta.data_ptr<scalar_t>(), tb.data_ptr<scalar_t>(),
                tw.defined() ? tw.data_ptr<scalar_t>() : nullptr};
            const kernels::CouplingGradients<scalar_t> to{
                da.data_ptr<scalar_t>(), db.data_ptr<scalar_t>(), dw.data_ptr<scalar_t>()};
            if (uses_groups(a)) {
                run_groups(
                    a,
                    groups::CouplingSecond<scalar_t>{problem, along, grad.data_ptr<scalar_t>(), to,
                                                     dg.data_ptr<scalar_t>()},
                    groups::n_coupling_items(a.size(0), a.size(2)));
                return;
            }
            at::parallel_for(0, a.size(0), kGrain, [&](int64_t begin, int64_t end) {
                kernels::couple_second(problem, along, begin, end, grad.data_ptr<scalar_t>(), to,
                                       dg.data_ptr<scalar_t>());
            });
        });
        const Tensor none;
        return {da, db, on_species(dw, species, weight), dg, none, none, none, none, none};
    }
};

struct Couple : torch::autograd::Function<Couple> {
    static Tensor forward(AutogradContext *context, const Tensor &a, const Tensor &b,
                          const Tensor &weight, const Tensor &species, const Tensor &rows,
                          const Tensor &terms, const Tensor &coefficients) {
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({a, b, weight, species, rows, terms, coefficients});
        Tensor out = torch::empty_like(a);
        EQUICALC_DISPATCH(a.scalar_type(), "couple", [&] {
            const auto problem =
                coupling_problem<scalar_t>(a, b, species, weight, {rows, terms, coefficients});
            if (uses_groups(a)) {
                run_groups(a, groups::CouplingValues<scalar_t>{problem, out.data_ptr<scalar_t>()},
                           groups::n_coupling_items(a.size(0), a.size(2)));
                return;
            }
            at::parallel_for(0, a.size(0), kGrain, [&](int64_t begin, int64_t end) {
                kernels::couple(problem, begin, end, out.data_ptr<scalar_t>());
            });
        });
        return out;
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        const auto s = context->get_saved_variables();
        const bool need_weight = context->needs_input_grad(2);
        const auto found = CoupleGradient::apply(s[0], s[1], s[2], grads[0].contiguous(), s[3],
                                                 s[4], s[5], s[6], need_weight);
        const Tensor none;
        return {found[0], found[1], need_weight ? found[2] : none, none, none, none, none};
    }
};

Tensor couple(const Tensor &a, const Tensor &b, const Tensor &species, const Tensor &weight,
              const Tensor &rows, const Tensor &terms, const Tensor &coefficients) {
    check_like(b, a, "b");
    check_like(weight, a, "weights");
    check_like(coefficients, a, "coefficients");
    check_shape(a, {kAny, kAny, kAny}, "couple", "a");
    check_shape(b, a.sizes(), "couple", "b");
    check_shape(weight, {kAny, kAny, a.size(2)}, "couple", "weights");
    check_species(species, a.size(0), weight.size(0), a, "couple");
    check_indices(rows.select(0, 1), weight.size(1), "couple", "paths");
    check_indices(rows.select(0, 2), a.size(1), "couple", "components");
    check_indices(terms, a.size(1), "couple", "components");
    return Couple::apply(a.contiguous(), b.contiguous(), weight.contiguous(), species.contiguous(),
                         rows.contiguous(), terms.contiguous(), coefficients.contiguous());
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def(
        "couple(Tensor a, Tensor b, Tensor species, Tensor weight, Tensor rows, "
        "Tensor terms, Tensor coefficients) -> Tensor");
}

EQUICALC_REGISTER_KERNELS(couple, couple)
EQUICALC_REGISTER_AUTOGRAD(couple, couple)

}  // namespace equicalc
