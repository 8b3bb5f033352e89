// equicalc::equivariant_convolution(x [n_total, M, C], radial [E, B], harmonics [E, M],
// weight [B, P, C], edge_index, n_local, tables) -> [n_local, M, C], see equivariant_kernels.h
#include "cuda/equivariant.h"
#include "operators/equivariant_kernels.h"
#include "operators/fused_ops.h"
#include "operators/op_checks.h"

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Receivers whose contributions to the gradient of weights are one partial sum.
constexpr int64_t kChunk = 64;
constexpr int64_t kDeviceChunk = 8, kDeviceChunks = 1024;

// The four factors, some of which may be replaced by their tangents.
struct Factors {
    Tensor x, radial, harmonics, weight;
};

// Everything that has no gradient.
struct Constants {
    Tensor starts, receivers, senders, rows, entries, terms, coefficients;

    explicit Constants(const Tensor *first)
        : starts(first[0]),
          receivers(first[1]),
          senders(first[2]),
          rows(first[3]),
          entries(first[4]),
          terms(first[5]),
          coefficients(first[6]) {}

    kernels::EdgeRows edges() const {
        return {starts.data_ptr<int64_t>(), senders.data_ptr<int64_t>()};
    }
    groups::Edges pointers() const {
        return {starts.data_ptr<int64_t>(), receivers.data_ptr<int64_t>(),
                senders.data_ptr<int64_t>()};
    }
    int64_t n_local() const { return starts.numel() - 1; }
};

template <typename T>
kernels::EquivariantConvolution<T> equivariant_problem(const Factors &f, const Constants &k) {
    const int64_t n_rows = k.rows.size(1), n_entries = k.entries.size(1);
    const int64_t *row = k.rows.data_ptr<int64_t>(), *entry = k.entries.data_ptr<int64_t>();
    return {{f.x.size(1), f.weight.size(1), n_rows - 1, n_entries - 1, row, row + n_rows,
             row + 2 * n_rows, entry, entry + n_entries, k.terms.data_ptr<int64_t>(),
             k.coefficients.data_ptr<T>()},
            f.x.size(2),
            f.radial.size(1),
            f.x.data_ptr<T>(),
            f.radial.data_ptr<T>(),
            f.harmonics.data_ptr<T>(),
            f.weight.data_ptr<T>()};
}

Tensor values(const Factors &f, const Constants &k) {
    Tensor out = torch::empty({k.n_local(), f.x.size(1), f.x.size(2)}, f.x.options());
    EQUICALC_DISPATCH(f.x.scalar_type(), "equivariant_convolution", [&] {
        const auto problem = equivariant_problem<scalar_t>(f, k);
        if (uses_groups(out)) {
            groups::with_degrees(degrees(f.x.size(1)), [&](auto l) {
                run_groups(out,
                           groups::EquivariantValues<scalar_t, l>{problem, k.pointers(),
                                                                  out.data_ptr<scalar_t>()},
                           k.n_local());
            });
            return;
        }
        at::parallel_for(0, k.n_local(), kGrain, [&](int64_t begin, int64_t end) {
            kernels::equivariant(problem, k.edges(), begin, end, out.data_ptr<scalar_t>());
        });
    });
    return out;
}

Tensor by_x(const Factors &f, const Constants &k, const Tensor &grad) {
    const auto [starts, order] = transpose_edges(k.senders, f.x.size(0));
    const kernels::SenderRows rows{starts.data_ptr<int64_t>(), order.data_ptr<int64_t>(),
                                   k.receivers.data_ptr<int64_t>()};
    Tensor dx = torch::empty_like(f.x);
    EQUICALC_DISPATCH(f.x.scalar_type(), "equivariant_senders", [&] {
        const auto problem = equivariant_problem<scalar_t>(f, k);
        if (uses_groups(dx)) {
            groups::with_degrees(degrees(f.x.size(1)), [&](auto l) {
                run_groups(dx,
                           groups::EquivariantSenders<scalar_t, l>{
                               problem, rows, grad.data_ptr<scalar_t>(), dx.data_ptr<scalar_t>()},
                           f.x.size(0));
            });
            return;
        }
        at::parallel_for(0, f.x.size(0), kGrain, [&](int64_t begin, int64_t end) {
            kernels::equivariant_senders(problem, rows, begin, end, grad.data_ptr<scalar_t>(),
                                         dx.data_ptr<scalar_t>());
        });
    });
    return dx;
}

// Gradients by radial functions and harmonics; undefined where they are not wanted.
std::pair<Tensor, Tensor> by_edges(const Factors &f, const Constants &k, const Tensor &grad,
                                   bool want_radial, bool want_harmonics) {
    Tensor db = want_radial ? torch::empty_like(f.radial) : Tensor();
    Tensor dy = want_harmonics ? torch::empty_like(f.harmonics) : Tensor();
    EQUICALC_DISPATCH(f.x.scalar_type(), "equivariant_edges", [&] {
        const auto problem = equivariant_problem<scalar_t>(f, k);
        scalar_t *to_radial = want_radial ? db.data_ptr<scalar_t>() : nullptr;
        scalar_t *to_harmonics = want_harmonics ? dy.data_ptr<scalar_t>() : nullptr;
        if (uses_groups(grad)) {
            groups::with_shape(degrees(f.x.size(1)), problem.n_radial, [&](auto l, auto b) {
                run_groups(
                    grad,
                    groups::EquivariantEdges<scalar_t, l, b>{
                        problem, k.pointers(), grad.data_ptr<scalar_t>(), to_radial, to_harmonics},
                    k.senders.numel());
            });
            return;
        }
        at::parallel_for(0, k.n_local(), kGrain, [&](int64_t begin, int64_t end) {
            kernels::equivariant_edges(problem, k.edges(), begin, end, grad.data_ptr<scalar_t>(),
                                       to_radial, to_harmonics);
        });
    });
    return {db, dy};
}

Tensor by_weight(const Factors &f, const Constants &k, const Tensor &grad) {
    // on the device chunks are smaller, but not too many: each has a partial sum in memory
    const int64_t n = k.n_local();
    const int64_t chunk_size = uses_groups(grad)
                                   ? std::max(kDeviceChunk, (n + kDeviceChunks - 1) / kDeviceChunks)
                                   : kChunk;
    const int64_t n_chunks = (n + chunk_size - 1) / chunk_size;
    Tensor sums = torch::zeros({n_chunks, f.weight.numel()}, f.weight.options());
    EQUICALC_DISPATCH(f.x.scalar_type(), "equivariant_weights", [&] {
        const auto problem = equivariant_problem<scalar_t>(f, k);
        if (uses_groups(grad)) {
            groups::with_degrees(degrees(f.x.size(1)), [&](auto l) {
                run_groups(grad,
                           groups::EquivariantWeights<scalar_t, l>{
                               problem, k.pointers(), n, chunk_size, grad.data_ptr<scalar_t>(),
                               sums.data_ptr<scalar_t>()},
                           n_chunks);
            });
            return;
        }
        at::parallel_for(0, n_chunks, 1, [&](int64_t begin, int64_t end) {
            for (int64_t chunk = begin; chunk < end; ++chunk) {
                kernels::equivariant_weights(problem, k.edges(), chunk * kChunk,
                                             std::min((chunk + 1) * kChunk, n),
                                             grad.data_ptr<scalar_t>(),
                                             sums.data_ptr<scalar_t>() + chunk * f.weight.numel());
            }
        });
    });
    return sums.sum(0).view_as(f.weight);
}

void add(Tensor &sum, const Tensor &value) { sum = sum.defined() ? sum.add_(value) : value; }

// Inputs: four factors, grad, seven constants. Outputs: gradients by x, radial, harmonics and, with
// need_weight, the weight.
struct EquivariantGradient : torch::autograd::Function<EquivariantGradient> {
    static variable_list forward(AutogradContext *context, const Tensor &x, const Tensor &radial,
                                 const Tensor &harmonics, const Tensor &weight, const Tensor &grad,
                                 const Tensor &starts, const Tensor &receivers,
                                 const Tensor &senders, const Tensor &rows, const Tensor &entries,
                                 const Tensor &terms, const Tensor &coefficients,
                                 bool need_weight) {
        at::AutoDispatchBelowADInplaceOrView guard;
        const Tensor constants[] = {starts, receivers, senders, rows, entries, terms, coefficients};
        const Constants k(constants);
        variable_list saved{x, radial, harmonics, weight, grad};
        for (const Tensor &constant : constants) {
            saved.push_back(constant);
        }
        context->save_for_backward(saved);
        const Factors f{x, radial, harmonics, weight};
        const auto [db, dy] = by_edges(f, k, grad, true, true);
        variable_list result{by_x(f, k, grad), db, dy};
        if (need_weight) {
            result.push_back(by_weight(f, k, grad));
        }
        return result;
    }

    static variable_list backward(AutogradContext *context, const variable_list &tangents) {
        refuse_third_derivative("equivariant_convolution");
        const auto saved = context->get_saved_variables();
        const Constants k(&saved[5]);
        const Tensor &grad = saved[4];
        variable_list result(13);
        // the function is linear in each factor: replace one after the other by its tangent
        for (size_t factor = 0; factor < tangents.size(); ++factor) {
            variable_list factors(saved.begin(), saved.begin() + 4);
            factors[factor] = tangents[factor].contiguous();
            const Factors f{factors[0], factors[1], factors[2], factors[3]};
            if (factor != 0 && context->needs_input_grad(0)) {
                add(result[0], by_x(f, k, grad));
            }
            const bool radial = factor != 1 && context->needs_input_grad(1);
            const bool harmonics = factor != 2 && context->needs_input_grad(2);
            if (radial || harmonics) {
                const auto [db, dy] = by_edges(f, k, grad, radial, harmonics);
                if (radial) {
                    add(result[1], db);
                }
                if (harmonics) {
                    add(result[2], dy);
                }
            }
            if (factor != 3 && context->needs_input_grad(3)) {
                add(result[3], by_weight(f, k, grad));
            }
            if (context->needs_input_grad(4)) {
                add(result[4], values(f, k));
            }
        }
        return result;
    }
};

struct Equivariant : torch::autograd::Function<Equivariant> {
    static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &radial,
                          const Tensor &harmonics, const Tensor &weight, const Tensor &starts,
                          const Tensor &receivers, const Tensor &senders, const Tensor &rows,
                          const Tensor &entries, const Tensor &terms, const Tensor &coefficients) {
        at::AutoDispatchBelowADInplaceOrView guard;
        const Tensor constants[] = {starts, receivers, senders, rows, entries, terms, coefficients};
        variable_list saved{x, radial, harmonics, weight};
        for (const Tensor &constant : constants) {
            saved.push_back(constant);
        }
        context->save_for_backward(saved);
        return values({x, radial, harmonics, weight}, Constants(constants));
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        const auto s = context->get_saved_variables();
        const bool need_weight = context->needs_input_grad(3);
        auto result =
            EquivariantGradient::apply(s[0], s[1], s[2], s[3], grads[0].contiguous(), s[4], s[5],
                                       s[6], s[7], s[8], s[9], s[10], need_weight);
        result.resize(11);
        return result;
    }
};

Tensor equivariant_convolution(const Tensor &x, const Tensor &radial, const Tensor &harmonics,
                               const Tensor &weight, const Tensor &edge_index, int64_t n_local,
                               const Tensor &rows, const Tensor &entries, const Tensor &terms,
                               const Tensor &coefficients) {
    check_like(radial, x, "radial");
    check_like(harmonics, x, "harmonics");
    check_like(weight, x, "weights");
    check_like(coefficients, x, "coefficients");
    const char *op = "equivariant_convolution";
    check_shape(x, {kAny, kAny, kAny}, op, "features");
    check_shape(radial, {kAny, kAny}, op, "radial functions");
    check_shape(harmonics, {radial.size(0), x.size(1)}, op, "harmonics");
    check_shape(weight, {radial.size(1), kAny, x.size(2)}, op, "weights");
    check_edges(edge_index, radial.size(0), x.size(0), x, op);
    check_components(x.size(1), op);
    check_indices(rows.select(0, 1), weight.size(1), op, "paths");
    check_indices(rows.select(0, 2), x.size(1), op, "components");
    check_indices(entries.select(0, 1), x.size(1), op, "components");
    check_indices(terms, x.size(1), op, "components");
    TORCH_CHECK(x.size(1) <= kernels::kMaxComponents && radial.size(1) <= kernels::kMaxRadial &&
                    weight.size(1) <= kernels::kMaxPaths,
                "equicalc: the fused convolution handles l_max <= ", kernels::kMaxDegree,
                ", at most ", kernels::kMaxRadial, " radial functions and ", kernels::kMaxPaths,
                " paths, found ", x.size(1), " components, ", radial.size(1), " functions and ",
                weight.size(1), " paths");
    const Tensor receivers = edge_index.select(0, 0).contiguous();
    const Tensor starts = row_starts(receivers, n_local);
    return Equivariant::apply(
        x.contiguous(), radial.contiguous(), harmonics.contiguous(), weight.contiguous(), starts,
        receivers, edge_index.select(0, 1).contiguous(), rows, entries, terms, coefficients);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def(
        "equivariant_convolution(Tensor x, Tensor radial, Tensor harmonics, Tensor weight, "
        "Tensor edge_index, int n_local, Tensor rows, Tensor entries, Tensor terms, "
        "Tensor coefficients) -> Tensor");
}

EQUICALC_REGISTER_KERNELS(equivariant_convolution, equivariant_convolution)
EQUICALC_REGISTER_AUTOGRAD(equivariant_convolution, equivariant_convolution)

}  // namespace equicalc
