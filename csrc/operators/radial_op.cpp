// equicalc::radial_functions(distance [E], weights and biases of two layers, prefactor, cutoff) ->
// [E, n_radial]. Slopes by the distance come with the values, so gradients by the distance are
// products with them, and gradients by weights are those of a loss of values and slopes.
#include "operators/radial_kernels.h"

#include "cuda/radial.h"
#include "operators/fused_ops.h"
#include "operators/op_checks.h"

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Edges whose contributions to gradients of weights are one partial sum.
constexpr int64_t kChunk = 1024;

template <typename T>
kernels::RadialFunctions<T> radial_problem(const variable_list &weights, const Tensor &distance,
                                           double prefactor, double cutoff) {
    return {weights[0].size(1),
            weights[0].size(0),
            weights[2].size(0),
            prefactor,
            cutoff,
            weights[0].data_ptr<T>(),
            weights[1].data_ptr<T>(),
            weights[2].data_ptr<T>(),
            weights[3].data_ptr<T>(),
            distance.data_ptr<T>()};
}

// Calls body with room for the Bessel and radial functions of groups of lanes.
template <typename T, typename Body>
void with_room(const kernels::RadialFunctions<T> &p, const Body &body) {
    const int64_t n = std::max(p.n_bessel, p.n_radial);
    TORCH_CHECK(n <= groups::kManyRadial, "equicalc: radial_functions handle at most ",
                groups::kManyRadial, " Bessel and radial functions on this device, found ",
                p.n_bessel, " and ", p.n_radial,
                "; set fused = False on the modules of equicalc.nn");
    if (n <= groups::kFewRadial) {
        body(std::integral_constant<int, groups::kFewRadial>{});
    } else {
        body(std::integral_constant<int, groups::kManyRadial>{});
    }
}

// Second derivatives of the functions by the distance, [E, n_radial]: for Hessians.
Tensor curvatures(const variable_list &w, const Tensor &distance, double prefactor, double cutoff) {
    const Tensor r = distance.unsqueeze(1);
    const Tensor k = torch::arange(1, w[0].size(1) + 1, r.options()) * (M_PI / cutoff);
    const Tensor j0 = prefactor * (r * k).sin() / r;
    const Tensor j1 = (prefactor * k * (r * k).cos() - j0) / r;
    const Tensor j2 = -k.square() * j0 - 2 * j1 / r;
    const Tensor h = torch::addmm(w[1], j0, w[0].t()), h1 = j1.mm(w[0].t());
    const Tensor h2 = j2.mm(w[0].t()), gate = h.sigmoid();
    const Tensor gain = gate * (1 + h * (1 - gate));
    const Tensor bend = gate * (1 - gate) * (2 + h * (1 - 2 * gate));
    const Tensor out = torch::addmm(w[3], h * gate, w[2].t()), out1 = (gain * h1).mm(w[2].t());
    const Tensor out2 = (bend * h1.square() + gain * h2).mm(w[2].t());
    const Tensor x = (r / cutoff).clamp_max(1);
    const Tensor u = 1 - x.pow(6) * (28 - x * (48 - x * 21));
    const Tensor u1 = x.pow(5) * (1 - x).square() * (-168 / cutoff);
    const Tensor u2 = x.pow(4) * (1 - x) * (5 - 7 * x) * (-168 / (cutoff * cutoff));
    return out2 * u + 2 * out1 * u1 + out * u2;
}

// Values and slopes as functions of the weights.
struct ValuesAndSlopes : torch::autograd::Function<ValuesAndSlopes> {
    static variable_list forward(AutogradContext *context, const Tensor &distance, const Tensor &w1,
                                 const Tensor &b1, const Tensor &w2, const Tensor &b2,
                                 double prefactor, double cutoff) {
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({w1, b1, w2, b2, distance});
        context->saved_data["prefactor"] = prefactor;
        context->saved_data["cutoff"] = cutoff;
        Tensor values = torch::empty({distance.size(0), w2.size(0)}, distance.options());
        Tensor slopes = torch::empty_like(values);
        EQUICALC_DISPATCH(distance.scalar_type(), "radial_functions", [&] {
            const auto p = radial_problem<scalar_t>({w1, b1, w2, b2}, distance, prefactor, cutoff);
            if (uses_groups(distance)) {
                with_room(p, [&](auto room) {
                    run_groups(distance,
                               groups::RadialValues<scalar_t, room>{p, values.data_ptr<scalar_t>(),
                                                                    slopes.data_ptr<scalar_t>()},
                               distance.size(0));
                });
                return;
            }
            at::parallel_for(0, distance.size(0), kChunk, [&](int64_t begin, int64_t end) {
                kernels::radial_functions(p, begin, end, values.data_ptr<scalar_t>(),
                                          slopes.data_ptr<scalar_t>());
            });
        });
        return {values, slopes};
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        refuse_third_derivative("radial_functions");
        const auto saved = context->get_saved_variables();
        const variable_list weights(saved.begin(), saved.begin() + 4);
        const Tensor &distance = saved[4];
        const Tensor by_values = grads[0].contiguous(), by_slopes = grads[1].contiguous();
        const int64_t chunk_size = uses_groups(distance) ? groups::kRadialChunk : kChunk;
        const int64_t n_edges = distance.size(0);
        const int64_t n_chunks = (n_edges + chunk_size - 1) / chunk_size;
        Tensor sums;
        EQUICALC_DISPATCH(distance.scalar_type(), "radial_weights", [&] {
            const auto p = radial_problem<scalar_t>(weights, distance,
                                                    context->saved_data["prefactor"].toDouble(),
                                                    context->saved_data["cutoff"].toDouble());
            sums = torch::empty({n_chunks, p.n_weights()}, distance.options());
            if (uses_groups(distance)) {
                with_room(p, [&](auto room) {
                    run_groups(distance,
                               groups::RadialWeights<scalar_t, room>{
                                   p, n_edges, by_values.data_ptr<scalar_t>(),
                                   by_slopes.data_ptr<scalar_t>(), sums.data_ptr<scalar_t>()},
                               n_chunks);
                });
                return;
            }
            at::parallel_for(0, n_chunks, 1, [&](int64_t begin, int64_t end) {
                for (int64_t chunk = begin; chunk < end; ++chunk) {
                    kernels::radial_weights(
                        p, chunk * kChunk, std::min((chunk + 1) * kChunk, n_edges),
                        by_values.data_ptr<scalar_t>(), by_slopes.data_ptr<scalar_t>(),
                        sums.data_ptr<scalar_t>() + chunk * p.n_weights());
                }
            });
        });
        const auto parts = sums.sum(0).split_with_sizes(
            {weights[0].numel(), weights[1].numel(), weights[2].numel(), weights[3].numel()});
        const Tensor none;
        return {none,     parts[0].view_as(weights[0]),
                parts[1], parts[2].view_as(weights[2]),
                parts[3], none,
                none};
    }
};

// Slopes, whose own gradient by the distance is made when it is asked for.
struct Slopes : torch::autograd::Function<Slopes> {
    static Tensor forward(AutogradContext *context, const Tensor &distance, const Tensor &slopes,
                          const Tensor &w1, const Tensor &b1, const Tensor &w2, const Tensor &b2,
                          double prefactor, double cutoff) {
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({w1, b1, w2, b2, distance});
        context->saved_data["prefactor"] = prefactor;
        context->saved_data["cutoff"] = cutoff;
        context->set_materialize_grads(false);
        return slopes.view_as(slopes);
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        Tensor by_distance;
        // first derivatives pass through here without a gradient of the slopes
        if (grads[0].defined() && context->needs_input_grad(0)) {
            refuse_third_derivative("radial_functions");
            const auto saved = context->get_saved_variables();
            by_distance = (grads[0] * curvatures({saved[0], saved[1], saved[2], saved[3]}, saved[4],
                                                 context->saved_data["prefactor"].toDouble(),
                                                 context->saved_data["cutoff"].toDouble()))
                              .sum(1);
        }
        const Tensor none;
        return {by_distance, grads[0], none, none, none, none, none, none};
    }
};

// Values, with slopes as their gradient by the distance.
struct Values : torch::autograd::Function<Values> {
    static Tensor forward(AutogradContext *context, const Tensor &distance, const Tensor &values,
                          const Tensor &slopes) {
        at::AutoDispatchBelowADInplaceOrView guard;
        (void)distance;
        context->save_for_backward({slopes});
        return values.view_as(values);
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        Tensor by_distance;
        if (context->needs_input_grad(0)) {
            by_distance = (grads[0] * context->get_saved_variables()[0]).sum(1);
        }
        return {by_distance, grads[0], Tensor()};
    }
};

Tensor radial_functions(const Tensor &distance, const Tensor &w1, const Tensor &b1,
                        const Tensor &w2, const Tensor &b2, double prefactor, double cutoff) {
    for (const Tensor &weight : {w1, b1, w2, b2}) {
        check_like(weight, distance, "weights");
    }
    const char *op = "radial_functions";
    check_shape(distance, {kAny}, op, "distances");
    check_shape(w1, {kAny, kAny}, op, "the first weights");
    check_shape(b1, {w1.size(0)}, op, "the first biases");
    check_shape(w2, {kAny, w1.size(0)}, op, "the second weights");
    check_shape(b2, {w2.size(0)}, op, "the second biases");
    const variable_list w{w1.contiguous(), b1.contiguous(), w2.contiguous(), b2.contiguous()};
    const auto found = ValuesAndSlopes::apply(distance.detach().contiguous(), w[0], w[1], w[2],
                                              w[3], prefactor, cutoff);
    if (!distance.requires_grad()) {
        return found[0];
    }
    const Tensor slopes = Slopes::apply(distance, found[1], w[0].detach(), w[1].detach(),
                                        w[2].detach(), w[3].detach(), prefactor, cutoff);
    return Values::apply(distance, found[0], slopes);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def(
        "radial_functions(Tensor distance, Tensor w1, Tensor b1, Tensor w2, Tensor b2, "
        "float prefactor, float cutoff) -> Tensor");
}

EQUICALC_REGISTER_KERNELS(radial_functions, radial_functions)
EQUICALC_REGISTER_AUTOGRAD(radial_functions, radial_functions)

}  // namespace equicalc
