// equicalc::degree_linear: one matrix per degree for features [n, M, C], see equicalc/nn/linear.py.
// Expressions of torch everywhere but on devices, whose products of matrices want the components as
// a batch: products in the order of features are as many small ones as there are atoms.
#include <vector>

#include "operators/fused_ops.h"

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The components of one degree of features [n, M, C] as a batch [2 l + 1, n, C]; not a copy.
Tensor components(const Tensor &features, int64_t degree) {
    return features.narrow(1, degree * degree, 2 * degree + 1).transpose(0, 1);
}

Tensor mixed(const Tensor &x, at::TensorList weights) {
    Tensor out = torch::empty({x.size(0), x.size(1), weights[0].size(1)}, x.options());
    for (size_t degree = 0; degree < weights.size(); ++degree) {
        Tensor block = components(out, degree);
        const Tensor &weight = weights[degree];
        at::bmm_out(block, components(x, degree),
                    weight.expand({block.size(0), weight.size(0), weight.size(1)}));
    }
    return out;
}

// d(weight) of one degree, from features and gradients of the result.
Tensor weight_gradient(const Tensor &x, const Tensor &grad, int64_t degree) {
    return torch::bmm(components(x, degree).transpose(1, 2), components(grad, degree)).sum(0);
}

struct DegreeLinear : torch::autograd::Function<DegreeLinear> {
    static Tensor forward(AutogradContext *context, const Tensor &x, at::TensorList weights) {
        at::AutoDispatchBelowADInplaceOrView guard;
        variable_list saved{x};
        saved.insert(saved.end(), weights.begin(), weights.end());
        context->save_for_backward(saved);
        return mixed(x.contiguous(), weights);
    }

    // Of differentiable operations, this one among them: second derivatives follow.
    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        const variable_list saved = context->get_saved_variables();
        const Tensor &x = saved[0], &grad = grads[0];
        variable_list transposed, found(saved.size());
        for (size_t k = 1; k < saved.size(); ++k) {
            transposed.push_back(saved[k].t());
            if (context->needs_input_grad(k)) {
                found[k] = weight_gradient(x, grad, static_cast<int64_t>(k) - 1);
            }
        }
        if (context->needs_input_grad(0)) {
            found[0] = DegreeLinear::apply(grad, at::TensorList(transposed));
        }
        return found;
    }
};

Tensor by_expressions(const Tensor &x, at::TensorList weights) {
    std::vector<int64_t> sizes;
    for (size_t degree = 0; degree < weights.size(); ++degree) {
        sizes.push_back(2 * static_cast<int64_t>(degree) + 1);
    }
    // split, whose gradient is one concatenation, and not slices, whose gradients are padded
    std::vector<Tensor> parts = x.split_with_sizes(sizes, 1);
    for (size_t degree = 0; degree < weights.size(); ++degree) {
        // not matmul, for which tracers of torch.export see a fixed number of atoms in here
        const Tensor &weight = weights[degree];
        parts[degree] = parts[degree]
                            .reshape({-1, weight.size(0)})
                            .mm(weight)
                            .reshape({-1, sizes[degree], weight.size(1)});
    }
    return torch::cat(parts, 1);
}

Tensor degree_linear(const Tensor &x, at::TensorList weights) {
    const auto n_degrees = static_cast<int64_t>(weights.size());
    // size() would fix the number of atoms, too, while torch.export traces
    TORCH_CHECK(x.dim() == 3 && n_degrees > 0 &&
                    x.sym_size(1).guard_int(__FILE__, __LINE__) == n_degrees * n_degrees,
                "equicalc: degree_linear takes features [n, L^2, C] and L matrices, found ",
                x.sizes(), " and ", n_degrees);
    return uses_groups(x) ? DegreeLinear::apply(x, weights) : by_expressions(x, weights);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def("degree_linear(Tensor x, Tensor[] weights) -> Tensor");
}

EQUICALC_REGISTER(degree_linear, degree_linear, CompositeImplicitAutograd)

}  // namespace equicalc
