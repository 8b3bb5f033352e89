// equicalc::scalar_convolution: messages without anything per edge in memory, for evaluation.
// Weights are constants and derivatives are first ones; anything else is an error, not a silent
// zero: training goes through equicalc::radial_moments.
#include "operators/convolution_kernels.h"
#include "cuda/convolution.h"
#include "operators/fused_ops.h"
#include "operators/op_checks.h"

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void refuse_gradient(const Tensor &tensor, const char *name) {
    TORCH_CHECK(!tensor.requires_grad(), "equicalc: a fused operator has no gradient of its ", name,
                "; train through equicalc::radial_moments");
}

template <typename T>
kernels::ScalarConvolution<T> scalar_problem(const Tensor &x, const Tensor &radial,
                                             const Tensor &harmonics, const Tensor &mix) {
    const int64_t n_channels = x.size(2);
    return {mix.size(1) / n_channels - 1,
            n_channels,
            radial.size(1),
            x.data_ptr<T>(),
            radial.data_ptr<T>(),
            harmonics.data_ptr<T>(),
            mix.data_ptr<T>()};
}

struct ScalarConvolution : torch::autograd::Function<ScalarConvolution> {
    static Tensor forward(AutogradContext *context, const Tensor &x_in, const Tensor &radial_in,
                          const Tensor &harmonics_in, const Tensor &mix_in,
                          const Tensor &edge_index, int64_t n_local) {
        at::AutoDispatchBelowADInplaceOrView guard;
        refuse_gradient(mix_in, "radial weights");
        check_like(radial_in, x_in, "radial");
        check_like(harmonics_in, x_in, "harmonics");
        check_like(mix_in, x_in, "weights");
        const char *op = "scalar_convolution";
        check_shape(x_in, {kAny, kAny, kAny}, op, "features");
        check_shape(radial_in, {kAny, kAny}, op, "radial functions");
        check_shape(harmonics_in, {radial_in.size(0), x_in.size(1)}, op, "harmonics");
        check_edges(edge_index, radial_in.size(0), x_in.size(0), x_in, op);
        const int64_t n_degrees = check_components(x_in.size(1), op);
        check_shape(mix_in, {radial_in.size(1), n_degrees * x_in.size(2)}, op, "weights");
        const Tensor x = x_in.contiguous(), radial = radial_in.contiguous();
        const Tensor harmonics = harmonics_in.contiguous(), mix = mix_in.contiguous();
        TORCH_CHECK(x.size(1) <= kernels::kMaxComponents && radial.size(1) <= kernels::kMaxRadial,
                    "equicalc: the fused scalar convolution handles l_max <= ", kernels::kMaxDegree,
                    " and at most ", kernels::kMaxRadial, " radial functions, found ", x.size(1),
                    " components and ", radial.size(1), " functions");
        const Tensor receivers = edge_index.select(0, 0).contiguous();
        const Tensor senders = edge_index.select(0, 1).contiguous();
        const Tensor starts = row_starts(receivers, n_local);
        Tensor messages = torch::empty({n_local, mix.size(1)}, x.options());
        EQUICALC_DISPATCH(x.scalar_type(), "scalar_convolution", [&] {
            const auto problem = scalar_problem<scalar_t>(x, radial, harmonics, mix);
            if (uses_groups(x)) {
                const groups::Edges edges{starts.data_ptr<int64_t>(), receivers.data_ptr<int64_t>(),
                                          senders.data_ptr<int64_t>()};
                groups::with_shape(problem.l_max + 1, problem.n_radial, [&](auto l, auto b) {
                    run_groups(x,
                               groups::ScalarValues<scalar_t, l, b>{problem, edges,
                                                                    messages.data_ptr<scalar_t>()},
                               n_local);
                });
                return;
            }
            const kernels::EdgeRows rows{starts.data_ptr<int64_t>(), senders.data_ptr<int64_t>()};
            at::parallel_for(0, n_local, kGrain, [&](int64_t begin, int64_t end) {
                kernels::scalar_convolution(problem, rows, begin, end,
                                            messages.data_ptr<scalar_t>());
            });
        });
        context->save_for_backward({x, radial, harmonics, mix, receivers, senders, starts});
        return messages;
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        refuse_second_derivative("scalar_convolution", "use the network of equicalc.nn");
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], &radial = saved[1], &harmonics = saved[2], &mix = saved[3];
        const Tensor &receivers = saved[4], &senders = saved[5], &starts = saved[6];
        const Tensor grad = grads[0].contiguous();
        const auto transposed_edges = transpose_edges(senders, x.size(0));
        const Tensor &sender_starts = transposed_edges.first;
        const Tensor &sender_edges = transposed_edges.second;
        Tensor dx = torch::empty_like(x), d_radial = torch::empty_like(radial);
        Tensor d_harmonics = torch::empty_like(harmonics);
        EQUICALC_DISPATCH(x.scalar_type(), "scalar_convolution_backward", [&] {
            const auto problem = scalar_problem<scalar_t>(x, radial, harmonics, mix);
            const auto *g = grad.data_ptr<scalar_t>();
            const kernels::SenderRows transposed{sender_starts.template data_ptr<int64_t>(),
                                                 sender_edges.template data_ptr<int64_t>(),
                                                 receivers.data_ptr<int64_t>()};
            auto *by_radial = d_radial.data_ptr<scalar_t>();
            auto *by_harmonics = d_harmonics.data_ptr<scalar_t>();
            auto *by_x = dx.data_ptr<scalar_t>();
            if (uses_groups(x)) {
                const groups::Edges edges{starts.data_ptr<int64_t>(), receivers.data_ptr<int64_t>(),
                                          senders.data_ptr<int64_t>()};
                groups::with_shape(problem.l_max + 1, problem.n_radial, [&](auto l, auto b) {
                    run_groups(x,
                               groups::ScalarEdges<scalar_t, l, b>{problem, edges, g, by_radial,
                                                                   by_harmonics},
                               senders.numel());
                    run_groups(x,
                               groups::ScalarSenders<scalar_t, l, b>{problem, transposed, g, by_x},
                               x.size(0));
                });
                return;
            }
            const kernels::EdgeRows rows{starts.data_ptr<int64_t>(), senders.data_ptr<int64_t>()};
            at::parallel_for(0, starts.numel() - 1, kGrain, [&](int64_t begin, int64_t end) {
                kernels::scalar_convolution_edges(problem, rows, begin, end, g, by_radial,
                                                  by_harmonics);
            });
            at::parallel_for(0, x.size(0), kGrain, [&](int64_t begin, int64_t end) {
                kernels::scalar_convolution_senders(problem, transposed, begin, end, g, by_x);
            });
        });
        return {dx, d_radial, d_harmonics, Tensor(), Tensor(), Tensor()};
    }
};

Tensor scalar_convolution(const Tensor &x, const Tensor &radial, const Tensor &harmonics,
                          const Tensor &mix, const Tensor &edge_index, int64_t n_local) {
    return ScalarConvolution::apply(x, radial, harmonics, mix, edge_index, n_local);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def(
        "scalar_convolution(Tensor x, Tensor radial, Tensor harmonics, Tensor mix, "
        "Tensor edge_index, int n_local) -> Tensor");
}

EQUICALC_REGISTER_KERNELS(scalar_convolution, scalar_convolution)
EQUICALC_REGISTER_AUTOGRAD(scalar_convolution, scalar_convolution)

}  // namespace equicalc
