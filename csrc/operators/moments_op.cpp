// equicalc::radial_moments(x [n_total, M, C], radial [E, B], harmonics [E, M]) ->
// [n_local, B, (l_max + 1) C], see moment_kernels.h
#include "cuda/moments.h"
#include "operators/fused_ops.h"
#include "operators/op_checks.h"
#include "operators/moment_kernels.h"

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The three factors, or their tangents.
struct Factors {
    Tensor x, radial, harmonics;

    template <typename T>
    kernels::MomentInputs<T> pointers() const {
        return {x.data_ptr<T>(), radial.data_ptr<T>(), harmonics.data_ptr<T>()};
    }
};

// Edges in the order of receivers; who sends along them.
struct Edges {
    Tensor starts, receivers, senders;

    groups::Edges pointers() const {
        return {starts.data_ptr<int64_t>(), receivers.data_ptr<int64_t>(),
                senders.data_ptr<int64_t>()};
    }
};

template <typename T>
kernels::Moments<T> moment_problem(const Factors &at, const Factors *along) {
    return {degrees(at.x.size(1)) - 1,
            at.x.size(2),
            at.radial.size(1),
            at.pointers<T>(),
            along ? along->pointers<T>() : kernels::MomentInputs<T>{},
            along != nullptr};
}

Tensor moments(const Factors &at, const Factors *along, const Edges &edges) {
    const int64_t n_local = edges.starts.numel() - 1;
    Tensor out;
    EQUICALC_DISPATCH(at.x.scalar_type(), "radial_moments", [&] {
        const auto problem = moment_problem<scalar_t>(at, along);
        out = torch::empty({n_local, problem.n_radial, (problem.l_max + 1) * problem.n_channels},
                           at.x.options());
        if (uses_groups(out)) {
            groups::with_shape(problem.l_max + 1, problem.n_radial, [&](auto l, auto b) {
                run_groups(out,
                           groups::MomentValues<scalar_t, l, b>{problem, edges.pointers(),
                                                                out.data_ptr<scalar_t>()},
                           n_local);
            });
            return;
        }
        const kernels::EdgeRows rows{edges.starts.data_ptr<int64_t>(),
                                     edges.senders.data_ptr<int64_t>()};
        at::parallel_for(0, n_local, kGrain, [&](int64_t begin, int64_t end) {
            kernels::moments(problem, rows, begin, end, out.data_ptr<scalar_t>());
        });
    });
    return out;
}

// Gradients by (radial, harmonics); the second is undefined unless it is wanted.
std::pair<Tensor, Tensor> edge_gradients(const Factors &at, const Factors *along,
                                         const Edges &edges, const Tensor &grad,
                                         bool need_harmonics) {
    Tensor d_radial = torch::empty_like(at.radial), d_harmonics;
    if (need_harmonics) {
        d_harmonics = torch::empty_like(at.harmonics);
    }
    EQUICALC_DISPATCH(at.x.scalar_type(), "radial_moments_edges", [&] {
        const auto problem = moment_problem<scalar_t>(at, along);
        scalar_t *to = need_harmonics ? d_harmonics.data_ptr<scalar_t>() : nullptr;
        if (uses_groups(grad)) {
            groups::with_shape(problem.l_max + 1, problem.n_radial, [&](auto l, auto b) {
                run_groups(grad,
                           groups::MomentEdges<scalar_t, l, b>{problem, edges.pointers(),
                                                               grad.data_ptr<scalar_t>(),
                                                               d_radial.data_ptr<scalar_t>(), to},
                           edges.senders.numel());
            });
            return;
        }
        const kernels::EdgeRows rows{edges.starts.data_ptr<int64_t>(),
                                     edges.senders.data_ptr<int64_t>()};
        const int64_t n_local = edges.starts.numel() - 1;
        at::parallel_for(0, n_local, kGrain, [&](int64_t begin, int64_t end) {
            kernels::moments_edges(problem, rows, begin, end, grad.data_ptr<scalar_t>(),
                                   d_radial.data_ptr<scalar_t>(), to);
        });
    });
    return {d_radial, d_harmonics};
}

Tensor sender_gradient(const Factors &at, const Factors *along, const Edges &edges,
                       const Tensor &grad) {
    const auto [starts, order] = transpose_edges(edges.senders, at.x.size(0));
    const kernels::SenderRows rows{starts.data_ptr<int64_t>(), order.data_ptr<int64_t>(),
                                   edges.receivers.data_ptr<int64_t>()};
    Tensor dx = torch::empty_like(at.x);
    EQUICALC_DISPATCH(at.x.scalar_type(), "radial_moments_senders", [&] {
        const auto problem = moment_problem<scalar_t>(at, along);
        if (uses_groups(grad)) {
            groups::with_degrees(problem.l_max + 1, [&](auto l) {
                run_groups(grad,
                           groups::MomentSenders<scalar_t, l>{
                               problem, rows, grad.data_ptr<scalar_t>(), dx.data_ptr<scalar_t>()},
                           at.x.size(0));
            });
            return;
        }
        at::parallel_for(0, at.x.size(0), kGrain, [&](int64_t begin, int64_t end) {
            kernels::moments_senders(problem, rows, begin, end, grad.data_ptr<scalar_t>(),
                                     dx.data_ptr<scalar_t>());
        });
    });
    return dx;
}

// Inputs (x, radial, harmonics, grad), outputs: gradients by the first three.
struct RadialMomentsGradient : torch::autograd::Function<RadialMomentsGradient> {
    static variable_list forward(AutogradContext *context, const Tensor &x, const Tensor &radial,
                                 const Tensor &harmonics, const Tensor &grad, const Tensor &starts,
                                 const Tensor &receivers, const Tensor &senders) {
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({x, radial, harmonics, grad, starts, receivers, senders});
        const Factors at{x, radial, harmonics};
        const Edges edges{starts, receivers, senders};
        const auto [d_radial, d_harmonics] = edge_gradients(at, nullptr, edges, grad, true);
        return {sender_gradient(at, nullptr, edges, grad), d_radial, d_harmonics};
    }

    static variable_list backward(AutogradContext *context, const variable_list &tangents) {
        refuse_third_derivative("radial_moments");
        const auto s = context->get_saved_variables();
        const Factors at{s[0], s[1], s[2]};
        const Factors along{tangents[0].contiguous(), tangents[1].contiguous(),
                            tangents[2].contiguous()};
        const Edges edges{s[4], s[5], s[6]};
        variable_list result(7);
        if (context->needs_input_grad(0)) {
            result[0] = sender_gradient(at, &along, edges, s[3]);
        }
        if (context->needs_input_grad(1) || context->needs_input_grad(2)) {
            std::tie(result[1], result[2]) =
                edge_gradients(at, &along, edges, s[3], context->needs_input_grad(2));
        }
        if (context->needs_input_grad(3)) {
            result[3] = moments(at, &along, edges);
        }
        return result;
    }
};

struct RadialMoments : torch::autograd::Function<RadialMoments> {
    static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &radial,
                          const Tensor &harmonics, const Tensor &starts, const Tensor &receivers,
                          const Tensor &senders) {
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({x, radial, harmonics, starts, receivers, senders});
        return moments({x, radial, harmonics}, nullptr, {starts, receivers, senders});
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        const auto s = context->get_saved_variables();
        auto found =
            RadialMomentsGradient::apply(s[0], s[1], s[2], grads[0].contiguous(), s[3], s[4], s[5]);
        found.resize(6);
        return found;
    }
};

Tensor radial_moments(const Tensor &x, const Tensor &radial, const Tensor &harmonics,
                      const Tensor &edge_index, int64_t n_local) {
    check_like(radial, x, "radial");
    check_like(harmonics, x, "harmonics");
    const char *op = "radial_moments";
    check_shape(x, {kAny, kAny, kAny}, op, "features");
    check_shape(radial, {kAny, kAny}, op, "radial functions");
    check_shape(harmonics, {radial.size(0), x.size(1)}, op, "harmonics");
    check_edges(edge_index, radial.size(0), x.size(0), x, op);
    check_components(x.size(1), op);
    TORCH_CHECK(x.size(1) <= kernels::kMaxComponents && radial.size(1) <= kernels::kMaxRadial,
                "equicalc: radial moments handle l_max <= ", kernels::kMaxDegree, " and at most ",
                kernels::kMaxRadial, " radial functions, found ", x.size(1), " components and ",
                radial.size(1), " functions");
    const Tensor receivers = edge_index.select(0, 0).contiguous();
    const Tensor senders = edge_index.select(0, 1).contiguous();
    return RadialMoments::apply(x.contiguous(), radial.contiguous(), harmonics.contiguous(),
                                row_starts(receivers, n_local), receivers, senders);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def(
        "radial_moments(Tensor x, Tensor radial, Tensor harmonics, Tensor edge_index, "
        "int n_local) -> Tensor");
}

EQUICALC_REGISTER_KERNELS(radial_moments, radial_moments)
EQUICALC_REGISTER_AUTOGRAD(radial_moments, radial_moments)

}  // namespace equicalc
