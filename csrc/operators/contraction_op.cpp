// equicalc::symmetric_contraction(x [n, M, C], species [n], weight [S, T, C], tree) -> [n, O, C],
// for evaluation: weights are constants and derivatives are first ones. The tree is one int64
// tensor per level, see equicalc/nn/contraction.py.
#include "operators/contraction_kernels.h"
#include "cuda/contraction.h"
#include "operators/fused_ops.h"
#include "operators/op_checks.h"

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Starts [O + 1]; rows (component, term, first child) [3, roots + 1] and [3, branches + 1], the
// last column of which only closes the list; (component, term) [2, leaves].
struct Levels {
    Tensor starts, roots, branches, leaves;

    Levels(const Tensor &s, const Tensor &r, const Tensor &b, const Tensor &l)
        : starts(s.contiguous()),
          roots(r.contiguous()),
          branches(b.contiguous()),
          leaves(l.contiguous()) {}

    kernels::ContractionTree tree() const {
        const auto row = [](const Tensor &level, int64_t index) {
            return level.data_ptr<int64_t>() + index * level.size(1);
        };
        return {starts.size(0) - 1, starts.data_ptr<int64_t>(),
                row(roots, 0),      row(roots, 1),
                row(roots, 2),      row(branches, 0),
                row(branches, 1),   row(branches, 2),
                row(leaves, 0),     row(leaves, 1)};
    }
};

template <typename T>
kernels::Contraction<T> contraction_problem(const Tensor &x, const Tensor &weight,
                                            const Tensor &species,
                                            const kernels::ContractionTree &tree) {
    return {tree,
            x.size(1),
            x.size(2),
            weight.size(1),
            x.data_ptr<T>(),
            weight.data_ptr<T>(),
            species.data_ptr<int64_t>()};
}

Tensor contraction_forward(const Tensor &features, const Tensor &species, const Tensor &weights,
                           const Tensor &starts, const Tensor &roots, const Tensor &branches,
                           const Tensor &leaves) {
    check_like(weights, features, "weights");
    TORCH_CHECK(features.dim() == 3 && features.size(1) <= kernels::kMaxContracted &&
                    weights.dim() == 3 && weights.size(2) == features.size(2),
                "equicalc: symmetric_contraction takes features [n, M <= ", kernels::kMaxContracted,
                ", C] and weights [S, T, C], found ", features.sizes(), " and ", weights.sizes());
    check_species(species, features.size(0), weights.size(0), features, "symmetric_contraction");
    for (const Tensor &level : {roots, branches, leaves}) {
        check_indices(level.select(0, 0), features.size(1), "symmetric_contraction", "components");
        check_indices(level.select(0, 1), weights.size(1), "symmetric_contraction", "terms", -1);
    }
    const Tensor x = features.contiguous(), weight = weights.contiguous();
    const Tensor kinds = species.contiguous();
    const Levels levels(starts, roots, branches, leaves);
    Tensor out = torch::empty({x.size(0), starts.size(0) - 1, x.size(2)}, x.options());
    EQUICALC_DISPATCH(x.scalar_type(), "symmetric_contraction", [&] {
        const auto problem = contraction_problem<scalar_t>(x, weight, kinds, levels.tree());
        if (uses_groups(x)) {
            run_groups(x, groups::ContractionValues<scalar_t>{problem, out.data_ptr<scalar_t>()},
                       x.size(0));
            return;
        }
        at::parallel_for(0, x.size(0), kGrain, [&](int64_t begin, int64_t end) {
            kernels::contract(problem, begin, end, out.data_ptr<scalar_t>());
        });
    });
    return out;
}

Tensor contraction_backward(const Tensor &gradient, const Tensor &features, const Tensor &species,
                            const Tensor &weights, const Tensor &starts, const Tensor &roots,
                            const Tensor &branches, const Tensor &leaves) {
    const Tensor x = features.contiguous(), weight = weights.contiguous();
    const Tensor kinds = species.contiguous(), grad = gradient.contiguous();
    const Levels levels(starts, roots, branches, leaves);
    Tensor dx = torch::empty_like(x);
    EQUICALC_DISPATCH(x.scalar_type(), "symmetric_contraction_backward", [&] {
        const auto problem = contraction_problem<scalar_t>(x, weight, kinds, levels.tree());
        if (uses_groups(x)) {
            run_groups(x,
                       groups::ContractionBackward<scalar_t>{problem, grad.data_ptr<scalar_t>(),
                                                             dx.data_ptr<scalar_t>()},
                       x.size(0));
            return;
        }
        at::parallel_for(0, x.size(0), kGrain, [&](int64_t begin, int64_t end) {
            kernels::contract_backward(problem, begin, end, grad.data_ptr<scalar_t>(),
                                       dx.data_ptr<scalar_t>());
        });
    });
    return dx;
}

// Both ways go through the dispatcher, where tracers of torch.export see one operator.
struct SymmetricContraction : torch::autograd::Function<SymmetricContraction> {
    static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &species,
                          const Tensor &weight, const Tensor &starts, const Tensor &roots,
                          const Tensor &branches, const Tensor &leaves) {
        static const auto op =
            operator_of<decltype(contraction_forward)>("equicalc::symmetric_contraction");
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({x, species, weight, starts, roots, branches, leaves});
        return op.call(x, species, weight, starts, roots, branches, leaves);
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        refuse_second_derivative("symmetric_contraction");
        static const auto op =
            operator_of<decltype(contraction_backward)>("equicalc::symmetric_contraction_backward");
        const auto s = context->get_saved_variables();
        variable_list result(7);
        result[0] = op.call(grads[0], s[0], s[1], s[2], s[3], s[4], s[5], s[6]);
        return result;
    }
};

Tensor symmetric_contraction(const Tensor &x, const Tensor &species, const Tensor &weight,
                             const Tensor &starts, const Tensor &roots, const Tensor &branches,
                             const Tensor &leaves) {
    TORCH_CHECK(!weight.requires_grad(),
                "equicalc: symmetric_contraction has no gradient of its weights; set fused = False "
                "on the modules of equicalc.nn to train through torch expressions");
    return SymmetricContraction::apply(x, species, weight, starts, roots, branches, leaves);
}

Tensor contraction_meta(const Tensor &x, const Tensor &, const Tensor &, const Tensor &starts,
                        const Tensor &, const Tensor &, const Tensor &) {
    return at::empty_symint({x.sym_size(0), starts.sym_size(0) - 1, x.sym_size(2)}, x.options());
}

Tensor contraction_backward_meta(const Tensor &, const Tensor &x, const Tensor &, const Tensor &,
                                 const Tensor &, const Tensor &, const Tensor &, const Tensor &) {
    return at::empty_like(x);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    const std::string inputs =
        "Tensor x, Tensor species, Tensor weight, Tensor starts, Tensor roots, Tensor branches, "
        "Tensor leaves) -> Tensor";
    library.def(("symmetric_contraction(" + inputs).c_str());
    library.def(("symmetric_contraction_backward(Tensor grad, " + inputs).c_str());
}

EQUICALC_REGISTER_KERNELS(symmetric_contraction, contraction_forward)
EQUICALC_REGISTER_AUTOGRAD(symmetric_contraction, symmetric_contraction)
EQUICALC_REGISTER(symmetric_contraction, contraction_meta, Meta)
EQUICALC_REGISTER_KERNELS(symmetric_contraction_backward, contraction_backward)
EQUICALC_REGISTER(symmetric_contraction_backward, contraction_backward_meta, Meta)

}  // namespace equicalc
