// equicalc::screened_repulsion(distance [E], ...) -> energies of receivers [n_local], float64, with
// first and second derivatives by the distance.
#include "cuda/repulsion.h"
#include "operators/fused_ops.h"
#include "operators/op_checks.h"

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What does not change with the distance. The table is float64 in the bits of int64, which casts of
// a network leave alone.
struct RepulsionPairs {
    Tensor species, index, table, coefficients, decays;
    double order = 6;
    int64_t n_local = 0;

    static RepulsionPairs of(AutogradContext *context, const variable_list &saved) {
        return {saved[0],
                saved[1],
                saved[2],
                saved[3],
                saved[4],
                context->saved_data["order"].toDouble(),
                context->saved_data["n_local"].toInt()};
    }
    void save(AutogradContext *context, variable_list others) const {
        variable_list all{species, index, table, coefficients, decays};
        all.insert(all.end(), others.begin(), others.end());
        context->save_for_backward(all);
        context->saved_data["order"] = order;
        context->saved_data["n_local"] = n_local;
    }
    template <typename T>
    groups::Repulsion<T> on(const Tensor &distance) const {
        const auto *edges = index.const_data_ptr<int64_t>();
        return {table.size(1),
                coefficients.numel(),
                order,
                distance.const_data_ptr<T>(),
                species.const_data_ptr<int64_t>(),
                edges,
                edges + index.size(1),
                reinterpret_cast<const double *>(table.const_data_ptr<int64_t>()),
                coefficients.const_data_ptr<T>(),
                decays.const_data_ptr<T>()};
    }
};

void check(const Tensor &distance, const RepulsionPairs &pairs) {
    TORCH_CHECK(distance.dim() == 1 && pairs.index.dim() == 2 && pairs.index.size(0) == 2 &&
                    pairs.index.size(1) == distance.size(0) && pairs.table.dim() == 3 &&
                    pairs.table.size(0) == 3 && pairs.table.size(1) == pairs.table.size(2) &&
                    pairs.decays.sizes() == pairs.coefficients.sizes(),
                "equicalc: screened_repulsion takes distances [E], edge_index [2, E], pairs [3, S, "
                "S] and as many coefficients as decays, found ",
                distance.sizes(), ", ", pairs.index.sizes(), ", ", pairs.table.sizes(), ", ",
                pairs.coefficients.sizes(), " and ", pairs.decays.sizes());
    TORCH_CHECK(
        pairs.table.scalar_type() == torch::kInt64 && pairs.table.device() == distance.device(),
        "equicalc: pairs must be the bits of float64 as int64 on ", distance.device(), ", found ",
        pairs.table.device(), " ", pairs.table.scalar_type());
    const char *op = "screened_repulsion";
    check_shape(pairs.species, {kAny}, op, "species");
    check_species(pairs.species, pairs.species.size(0), pairs.table.size(1), distance, op);
    check_edges(pairs.index, distance.size(0), pairs.species.size(0), distance, op);
    TORCH_CHECK(pairs.n_local <= pairs.species.size(0), "equicalc: ", op, " takes ", pairs.n_local,
                " receivers of at least as many species, found ", pairs.species.size(0));
    check_like(pairs.coefficients, distance, "coefficients");
    check_like(pairs.decays, distance, "decays");
}

// [n_local]; weights of edges may be undefined.
Tensor sums(const Tensor &distance, const RepulsionPairs &pairs, int derivative,
            const Tensor &weights) {
    const Tensor starts = row_starts(pairs.index.select(0, 0), pairs.n_local);
    Tensor result = torch::empty({pairs.n_local}, distance.options().dtype(torch::kFloat64));
    EQUICALC_DISPATCH(distance.scalar_type(), "screened_repulsion", [&] {
        run_items(distance,
                  groups::RepulsionSums<scalar_t>{
                      pairs.on<scalar_t>(distance), derivative, starts.const_data_ptr<int64_t>(),
                      weights.defined() ? weights.const_data_ptr<scalar_t>() : nullptr,
                      result.mutable_data_ptr<double>()},
                  pairs.n_local);
    });
    return result;
}

// [E]; weights of edges may be undefined.
Tensor of_edges(const Tensor &distance, const RepulsionPairs &pairs, int derivative,
                const Tensor &by_receiver, const Tensor &weights) {
    Tensor result = torch::empty_like(distance);
    EQUICALC_DISPATCH(distance.scalar_type(), "screened_repulsion_backward", [&] {
        run_items(
            distance,
            groups::RepulsionEdges<scalar_t>{
                pairs.on<scalar_t>(distance), derivative, by_receiver.const_data_ptr<double>(),
                weights.defined() ? weights.const_data_ptr<scalar_t>() : nullptr,
                result.mutable_data_ptr<scalar_t>()},
            distance.size(0));
    });
    return result;
}

// Inputs (distance, gradient of energies), output: gradient by the distance.
struct RepulsionGradient : torch::autograd::Function<RepulsionGradient> {
    static Tensor forward(AutogradContext *context, const Tensor &distance, const Tensor &gradient,
                          const RepulsionPairs &pairs) {
        at::AutoDispatchBelowADInplaceOrView guard;
        pairs.save(context, {distance, gradient});
        return of_edges(distance, pairs, 1, gradient, Tensor());
    }

    static variable_list backward(AutogradContext *context, const variable_list &tangents) {
        refuse_third_derivative("screened_repulsion");
        const auto saved = context->get_saved_variables();
        const RepulsionPairs pairs = RepulsionPairs::of(context, saved);
        const Tensor tangent = tangents[0].contiguous();
        return {of_edges(saved[5], pairs, 2, saved[6], tangent), sums(saved[5], pairs, 1, tangent),
                Tensor()};
    }
};

struct RepulsionEnergies : torch::autograd::Function<RepulsionEnergies> {
    static Tensor forward(AutogradContext *context, const Tensor &distance,
                          const RepulsionPairs &pairs) {
        at::AutoDispatchBelowADInplaceOrView guard;
        pairs.save(context, {distance});
        return sums(distance, pairs, 0, Tensor());
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        const auto saved = context->get_saved_variables();
        return {RepulsionGradient::apply(saved[5], grads[0].contiguous(),
                                         RepulsionPairs::of(context, saved)),
                Tensor()};
    }
};

Tensor screened_repulsion(const Tensor &distance, const Tensor &species, const Tensor &edge_index,
                          const Tensor &table, const Tensor &coefficients, const Tensor &decays,
                          double order, int64_t n_local) {
    const RepulsionPairs pairs{species.contiguous(),
                               edge_index.contiguous(),
                               table.contiguous(),
                               coefficients.contiguous(),
                               decays.contiguous(),
                               order,
                               n_local};
    check(distance, pairs);
    return RepulsionEnergies::apply(distance.contiguous(), pairs);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def(
        "screened_repulsion(Tensor distance, Tensor species, Tensor edge_index, Tensor pairs, "
        "Tensor coefficients, Tensor decays, float order, int n_local) -> Tensor");
}

EQUICALC_REGISTER_KERNELS(screened_repulsion, screened_repulsion)
EQUICALC_REGISTER_AUTOGRAD(screened_repulsion, screened_repulsion)

}  // namespace equicalc
