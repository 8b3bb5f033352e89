// Torch operators around the kernels of convolution_kernels.h, for evaluation on the CPU:
//   equicalc::outer_sum, equicalc::scalar_convolution, equicalc::couple
// Each has one derivative, by the inputs that depend on positions; weights are constants. Asking
// for a second derivative or for gradients of weights is an error, not a silent zero: training
// uses the torch expressions in equicalc/nn.
#include <ATen/Parallel.h>
#include <torch/library.h>
#include <torch/torch.h>

#include "convolution_kernels.h"

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Atoms that one task of a thread works on.
constexpr int64_t kGrain = 32;

void check(const Tensor &tensor, const Tensor &like, const char *name) {
    TORCH_CHECK(tensor.device().is_cpu() && tensor.scalar_type() == like.scalar_type(),
                "equicalc: ", name, " must be a CPU tensor of type ", like.scalar_type(),
                ", found ", tensor.device(), " ", tensor.scalar_type());
}

void refuse_gradient(const Tensor &tensor, const char *name) {
    TORCH_CHECK(!tensor.requires_grad(), "equicalc: a fused operator has no gradient of its ", name,
                "; train with the network of equicalc.nn");
}

void refuse_second_derivative() {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "equicalc: fused operators have first derivatives only (create_graph=True was "
                "asked for); use the network of equicalc.nn");
}

// start[k] = number of edges whose key is below k, for ascending keys.
Tensor row_starts(const Tensor &keys, int64_t n_rows) {
    Tensor starts = torch::zeros({n_rows + 1}, torch::kInt64);
    int64_t *start = starts.data_ptr<int64_t>();
    const int64_t *key = keys.data_ptr<int64_t>();
    for (int64_t e = 0; e < keys.numel(); ++e) {
        TORCH_CHECK(key[e] >= 0 && key[e] < n_rows && (e == 0 || key[e] >= key[e - 1]),
                    "equicalc: edge_index[0] must hold ascending receivers below ", n_rows,
                    ", found ", key[e], " at edge ", e);
        ++start[key[e] + 1];
    }
    for (int64_t k = 0; k < n_rows; ++k) {
        start[k + 1] += start[k];
    }
    return starts;
}

// Edges by sender: row starts [n_senders + 1] and edges [E], ascending within a sender.
std::pair<Tensor, Tensor> transpose(const Tensor &senders, int64_t n_senders) {
    Tensor starts = torch::zeros({n_senders + 1}, torch::kInt64);
    Tensor edges = torch::empty({senders.numel()}, torch::kInt64);
    int64_t *start = starts.data_ptr<int64_t>();
    const int64_t *sender = senders.data_ptr<int64_t>();
    for (int64_t e = 0; e < senders.numel(); ++e) {
        TORCH_CHECK(sender[e] >= 0 && sender[e] < n_senders,
                    "equicalc: edge_index[1] must hold senders below ", n_senders, ", found ",
                    sender[e], " at edge ", e);
        ++start[sender[e] + 1];
    }
    for (int64_t k = 0; k < n_senders; ++k) {
        start[k + 1] += start[k];
    }
    std::vector<int64_t> next(start, start + n_senders);
    for (int64_t e = 0; e < senders.numel(); ++e) {
        edges.data_ptr<int64_t>()[next[sender[e]]++] = e;
    }
    return {starts, edges};
}

#define EQUICALC_DISPATCH(type, name, ...) AT_DISPATCH_FLOATING_TYPES(type, name, __VA_ARGS__)

// ---- sums of outer products
// ----------------------------------------------------------------------

template <typename T>
kernels::OuterSum<T> outer_problem(const Tensor &harmonics, const Tensor &weights) {
    return {harmonics.size(1), weights.size(1), harmonics.data_ptr<T>(), weights.data_ptr<T>()};
}

struct OuterSum : torch::autograd::Function<OuterSum> {
    static Tensor forward(AutogradContext *context, const Tensor &harmonics, const Tensor &weights,
                          const Tensor &edge_index, int64_t n_local) {
        at::AutoDispatchBelowADInplaceOrView guard;
        check(weights, harmonics, "weights");
        TORCH_CHECK(harmonics.size(1) <= kernels::kMaxComponents,
                    "equicalc: the fused sum handles l_max <= ", kernels::kMaxDegree, ", found ",
                    harmonics.size(1), " components");
        const Tensor y = harmonics.contiguous(), w = weights.contiguous();
        const Tensor starts = row_starts(edge_index.select(0, 0).contiguous(), n_local);
        Tensor sums = torch::empty({n_local, y.size(1), w.size(1)}, y.options());
        EQUICALC_DISPATCH(y.scalar_type(), "outer_sum", [&] {
            const auto problem = outer_problem<scalar_t>(y, w);
            const kernels::EdgeRows rows{starts.data_ptr<int64_t>(), nullptr};
            at::parallel_for(0, n_local, kGrain, [&](int64_t begin, int64_t end) {
                kernels::outer_sum(problem, rows, begin, end, sums.data_ptr<scalar_t>());
            });
        });
        context->save_for_backward({y, w, starts});
        return sums;
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        refuse_second_derivative();
        const auto saved = context->get_saved_variables();
        const Tensor &y = saved[0], &w = saved[1], &starts = saved[2];
        const Tensor grad = grads[0].contiguous();
        Tensor dy = torch::empty_like(y), dw = torch::empty_like(w);
        EQUICALC_DISPATCH(y.scalar_type(), "outer_sum_backward", [&] {
            const auto problem = outer_problem<scalar_t>(y, w);
            const kernels::EdgeRows rows{starts.data_ptr<int64_t>(), nullptr};
            at::parallel_for(0, starts.numel() - 1, kGrain, [&](int64_t begin, int64_t end) {
                kernels::outer_sum_backward(problem, rows, begin, end, grad.data_ptr<scalar_t>(),
                                            dy.data_ptr<scalar_t>(), dw.data_ptr<scalar_t>());
            });
        });
        return {dy, dw, Tensor(), Tensor()};
    }
};

// ---- scalar convolution
// --------------------------------------------------------------------------

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
        check(radial_in, x_in, "radial");
        check(harmonics_in, x_in, "harmonics");
        check(mix_in, x_in, "weights");
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
        refuse_second_derivative();
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], &radial = saved[1], &harmonics = saved[2], &mix = saved[3];
        const Tensor &receivers = saved[4], &senders = saved[5], &starts = saved[6];
        const Tensor grad = grads[0].contiguous();
        const auto [sender_starts, sender_edges] = transpose(senders, x.size(0));
        Tensor dx = torch::empty_like(x), d_radial = torch::empty_like(radial);
        Tensor d_harmonics = torch::empty_like(harmonics);
        EQUICALC_DISPATCH(x.scalar_type(), "scalar_convolution_backward", [&] {
            const auto problem = scalar_problem<scalar_t>(x, radial, harmonics, mix);
            const auto *g = grad.data_ptr<scalar_t>();
            const kernels::EdgeRows rows{starts.data_ptr<int64_t>(), senders.data_ptr<int64_t>()};
            at::parallel_for(0, starts.numel() - 1, kGrain, [&](int64_t begin, int64_t end) {
                kernels::scalar_convolution_edges(problem, rows, begin, end, g,
                                                  d_radial.data_ptr<scalar_t>(),
                                                  d_harmonics.data_ptr<scalar_t>());
            });
            const kernels::SenderRows transposed{sender_starts.template data_ptr<int64_t>(),
                                                 sender_edges.template data_ptr<int64_t>(),
                                                 receivers.data_ptr<int64_t>()};
            at::parallel_for(0, x.size(0), kGrain, [&](int64_t begin, int64_t end) {
                kernels::scalar_convolution_senders(problem, transposed, begin, end, g,
                                                    dx.data_ptr<scalar_t>());
            });
        });
        return {dx, d_radial, d_harmonics, Tensor(), Tensor(), Tensor()};
    }
};

// ---- products of node features
// -------------------------------------------------------------------

template <typename T>
kernels::Coupling<T> coupling_problem(const Tensor &a, const Tensor &b, const Tensor &species,
                                      const Tensor &weight, const Tensor &rows, const Tensor &terms,
                                      const Tensor &coefficients) {
    const int64_t n_rows = rows.size(1), n_terms = terms.size(1);
    const int64_t *row = rows.data_ptr<int64_t>(), *term = terms.data_ptr<int64_t>();
    return {a.size(1),
            a.size(2),
            n_rows - 1,
            weight.size(1),
            row,
            row + n_rows,
            row + 2 * n_rows,
            term,
            term + n_terms,
            coefficients.data_ptr<T>(),
            a.data_ptr<T>(),
            b.data_ptr<T>(),
            weight.data_ptr<T>(),
            species.data_ptr<int64_t>()};
}

struct Couple : torch::autograd::Function<Couple> {
    static Tensor forward(AutogradContext *context, const Tensor &a_in, const Tensor &b_in,
                          const Tensor &species_in, const Tensor &weight_in, const Tensor &rows,
                          const Tensor &terms, const Tensor &coefficients) {
        at::AutoDispatchBelowADInplaceOrView guard;
        refuse_gradient(weight_in, "product weights");
        check(b_in, a_in, "b");
        check(weight_in, a_in, "weights");
        check(coefficients, a_in, "coefficients");
        const Tensor a = a_in.contiguous(), b = b_in.contiguous(), weight = weight_in.contiguous();
        const Tensor species = species_in.contiguous();
        Tensor out = torch::empty_like(a);
        EQUICALC_DISPATCH(a.scalar_type(), "couple", [&] {
            const auto problem =
                coupling_problem<scalar_t>(a, b, species, weight, rows, terms, coefficients);
            at::parallel_for(0, a.size(0), kGrain, [&](int64_t begin, int64_t end) {
                kernels::couple(problem, begin, end, out.data_ptr<scalar_t>());
            });
        });
        context->save_for_backward({a, b, species, weight, rows, terms, coefficients});
        return out;
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        refuse_second_derivative();
        const auto saved = context->get_saved_variables();
        const Tensor &a = saved[0], &b = saved[1];
        const Tensor grad = grads[0].contiguous();
        Tensor da = torch::empty_like(a), db = torch::empty_like(b);
        EQUICALC_DISPATCH(a.scalar_type(), "couple_backward", [&] {
            const auto problem =
                coupling_problem<scalar_t>(a, b, saved[2], saved[3], saved[4], saved[5], saved[6]);
            at::parallel_for(0, a.size(0), kGrain, [&](int64_t begin, int64_t end) {
                kernels::couple_backward(problem, begin, end, grad.data_ptr<scalar_t>(),
                                         da.data_ptr<scalar_t>(), db.data_ptr<scalar_t>());
            });
        });
        return {da, db, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
    }
};

Tensor outer_sum(const Tensor &harmonics, const Tensor &weights, const Tensor &edge_index,
                 int64_t n_local) {
    return OuterSum::apply(harmonics, weights, edge_index, n_local);
}

Tensor scalar_convolution(const Tensor &x, const Tensor &radial, const Tensor &harmonics,
                          const Tensor &mix, const Tensor &edge_index, int64_t n_local) {
    return ScalarConvolution::apply(x, radial, harmonics, mix, edge_index, n_local);
}

Tensor couple(const Tensor &a, const Tensor &b, const Tensor &species, const Tensor &weight,
              const Tensor &rows, const Tensor &terms, const Tensor &coefficients) {
    return Couple::apply(a, b, species, weight, rows, terms, coefficients);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def(
        "outer_sum(Tensor harmonics, Tensor weights, Tensor edge_index, int n_local) -> Tensor");
    library.def(
        "scalar_convolution(Tensor x, Tensor radial, Tensor harmonics, Tensor mix, "
        "Tensor edge_index, int n_local) -> Tensor");
    library.def(
        "couple(Tensor a, Tensor b, Tensor species, Tensor weight, Tensor rows, "
        "Tensor terms, Tensor coefficients) -> Tensor");
}

// The functions leave the autograd keys themselves, so one registration serves both.
TORCH_LIBRARY_IMPL(equicalc, CPU, library) {
    library.impl("outer_sum", &outer_sum);
    library.impl("scalar_convolution", &scalar_convolution);
    library.impl("couple", &couple);
}

TORCH_LIBRARY_IMPL(equicalc, AutogradCPU, library) {
    library.impl("outer_sum", &outer_sum);
    library.impl("scalar_convolution", &scalar_convolution);
    library.impl("couple", &couple);
}

}  // namespace equicalc
