// equicalc::outer_sum(harmonics [E, M], weights [E, K]) -> [n_local, M, K], summed on receivers.
// Its gradient is bilinear too, and is made of the same two kernels.
#include "operators/convolution_kernels.h"
#include "cuda/convolution.h"
#include "operators/fused_ops.h"
#include "operators/op_checks.h"

#include <limits>

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor sums(const Tensor &y, const Tensor &w, const Tensor &starts) {
    const int64_t n_local = starts.numel() - 1;
    Tensor out = torch::empty({n_local, y.size(1), w.size(1)}, y.options());
    EQUICALC_DISPATCH(y.scalar_type(), "outer_sum", [&] {
        const kernels::OuterSum<scalar_t> problem{y.size(1), w.size(1), y.data_ptr<scalar_t>(),
                                                  w.data_ptr<scalar_t>()};
        if (uses_groups(y)) {
            groups::with_degrees(degrees(y.size(1)), [&](auto l) {
                run_groups(y,
                           groups::OuterSumValues<scalar_t, l>{problem, starts.data_ptr<int64_t>(),
                                                               out.data_ptr<scalar_t>()},
                           n_local);
            });
            return;
        }
        const kernels::EdgeRows rows{starts.data_ptr<int64_t>(), nullptr};
        at::parallel_for(0, n_local, kGrain, [&](int64_t begin, int64_t end) {
            kernels::outer_sum(problem, rows, begin, end, out.data_ptr<scalar_t>());
        });
    });
    return out;
}

// (sum over k of w g, sum over m of y g), [E, M] and [E, K]
std::pair<Tensor, Tensor> gradients(const Tensor &y, const Tensor &w, const Tensor &starts,
                                    const Tensor &receivers, const Tensor &grad) {
    Tensor dy = torch::empty_like(y), dw = torch::empty_like(w);
    EQUICALC_DISPATCH(y.scalar_type(), "outer_sum_backward", [&] {
        const kernels::OuterSum<scalar_t> problem{y.size(1), w.size(1), y.data_ptr<scalar_t>(),
                                                  w.data_ptr<scalar_t>()};
        if (uses_groups(y)) {
            groups::with_degrees(degrees(y.size(1)), [&](auto l) {
                run_groups(y,
                           groups::OuterSumEdges<scalar_t, l>{
                               problem, receivers.data_ptr<int64_t>(), grad.data_ptr<scalar_t>(),
                               dy.data_ptr<scalar_t>(), dw.data_ptr<scalar_t>()},
                           y.size(0));
            });
            return;
        }
        const kernels::EdgeRows rows{starts.data_ptr<int64_t>(), nullptr};
        at::parallel_for(0, starts.numel() - 1, kGrain, [&](int64_t begin, int64_t end) {
            kernels::outer_sum_backward(problem, rows, begin, end, grad.data_ptr<scalar_t>(),
                                        dy.data_ptr<scalar_t>(), dw.data_ptr<scalar_t>());
        });
    });
    return {dy, dw};
}

struct OuterSumGradient : torch::autograd::Function<OuterSumGradient> {
    static variable_list forward(AutogradContext *context, const Tensor &y, const Tensor &w,
                                 const Tensor &grad, const Tensor &starts,
                                 const Tensor &receivers) {
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({y, w, grad, starts, receivers});
        const auto [dy, dw] = gradients(y, w, starts, receivers, grad);
        return {dy, dw};
    }

    static variable_list backward(AutogradContext *context, const variable_list &tangents) {
        refuse_third_derivative("outer_sum");
        const auto saved = context->get_saved_variables();
        const Tensor &y = saved[0], &w = saved[1], &grad = saved[2], &starts = saved[3];
        const Tensor ty = tangents[0].contiguous(), tw = tangents[1].contiguous();
        Tensor dy, dw, d_grad;
        if (context->needs_input_grad(0) || context->needs_input_grad(1)) {
            std::tie(dy, dw) = gradients(ty, tw, starts, saved[4], grad);
        }
        if (context->needs_input_grad(2)) {
            d_grad = sums(ty, w, starts).add_(sums(y, tw, starts));
        }
        return {dy, dw, d_grad, Tensor(), Tensor()};
    }
};

struct OuterSum : torch::autograd::Function<OuterSum> {
    static Tensor forward(AutogradContext *context, const Tensor &y, const Tensor &w,
                          const Tensor &starts, const Tensor &receivers) {
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({y, w, starts, receivers});
        return sums(y, w, starts);
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        const auto saved = context->get_saved_variables();
        const auto found =
            OuterSumGradient::apply(saved[0], saved[1], grads[0].contiguous(), saved[2], saved[3]);
        return {found[0], found[1], Tensor(), Tensor()};
    }
};

Tensor outer_sum(const Tensor &harmonics, const Tensor &weights, const Tensor &edge_index,
                 int64_t n_local) {
    check_like(weights, harmonics, "weights");
    check_shape(harmonics, {kAny, kAny}, "outer_sum", "harmonics");
    check_shape(weights, {harmonics.size(0), kAny}, "outer_sum", "weights");
    check_edges(edge_index, harmonics.size(0), std::numeric_limits<int64_t>::max(), harmonics,
                "outer_sum");
    check_components(harmonics.size(1), "outer_sum");
    TORCH_CHECK(harmonics.size(1) <= kernels::kMaxComponents,
                "equicalc: the fused sum handles l_max <= ", kernels::kMaxDegree, ", found ",
                harmonics.size(1), " components");
    const Tensor receivers = edge_index.select(0, 0).contiguous();
    return OuterSum::apply(harmonics.contiguous(), weights.contiguous(),
                           row_starts(receivers, n_local), receivers);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def(
        "outer_sum(Tensor harmonics, Tensor weights, Tensor edge_index, int n_local) -> Tensor");
}

EQUICALC_REGISTER_KERNELS(outer_sum, outer_sum)
EQUICALC_REGISTER_AUTOGRAD(outer_sum, outer_sum)

}  // namespace equicalc
