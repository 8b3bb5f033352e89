// Operators of compiled models (model.pt2): those of the network in a form that torch.export can
// trace. Gradients by what depends on edge vectors are operators of their own, and numbers of atoms
// are the lengths of `atoms`, a tensor with a row for each. Shapes for tracing and the rule that
// joins both are in equicalc/deploy/traced_ops.py.
#include "operators/fused_ops.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <functional>
#include <tuple>

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::variable_list;

// Gradients of what a function returns, weighted by `grad`, by all of its arguments.
variable_list gradients(const std::function<Tensor(const variable_list &)> &function,
                        const variable_list &arguments, const Tensor &grad) {
    // whatever keys the caller has left behind
    const c10::impl::ForceDispatchKeyGuard all_keys(c10::default_included_set,
                                                    c10::default_excluded_set);
    const torch::AutoGradMode with_grad(true);
    variable_list leaves;
    for (const Tensor &argument : arguments) {
        leaves.push_back(argument.detach().requires_grad_(true));
    }
    return torch::autograd::grad({function(leaves)}, leaves, {grad});
}

Tensor radial(const Tensor &distance, const Tensor &w1, const Tensor &b1, const Tensor &w2,
              const Tensor &b2, double prefactor, double cutoff) {
    static const auto op = operator_of<decltype(radial)>("equicalc::radial_functions");
    return op.call(distance, w1, b1, w2, b2, prefactor, cutoff);
}

Tensor radial_gradient(const Tensor &distance, const Tensor &w1, const Tensor &b1, const Tensor &w2,
                       const Tensor &b2, double prefactor, double cutoff, const Tensor &grad) {
    return gradients(
        [&](const variable_list &x) { return radial(x[0], w1, b1, w2, b2, prefactor, cutoff); },
        {distance}, grad)[0];
}

Tensor outer_sum(const Tensor &harmonics, const Tensor &weights, const Tensor &edge_index,
                 const Tensor &atoms) {
    using Signature = Tensor(const Tensor &, const Tensor &, const Tensor &, int64_t);
    static const auto op = operator_of<Signature>("equicalc::outer_sum");
    return op.call(harmonics, weights, edge_index, atoms.size(0));
}

std::tuple<Tensor, Tensor> outer_sum_gradient(const Tensor &harmonics, const Tensor &weights,
                                              const Tensor &edge_index, const Tensor &atoms,
                                              const Tensor &grad) {
    const auto found =
        gradients([&](const variable_list &x) { return outer_sum(x[0], x[1], edge_index, atoms); },
                  {harmonics, weights}, grad);
    return {found[0], found[1]};
}

Tensor couple(const Tensor &a, const Tensor &b, const Tensor &species, const Tensor &weight,
              const Tensor &rows, const Tensor &terms, const Tensor &coefficients) {
    static const auto op = operator_of<decltype(couple)>("equicalc::couple");
    return op.call(a, b, species, weight, rows, terms, coefficients);
}

std::tuple<Tensor, Tensor> couple_gradient(const Tensor &a, const Tensor &b, const Tensor &species,
                                           const Tensor &weight, const Tensor &rows,
                                           const Tensor &terms, const Tensor &coefficients,
                                           const Tensor &grad) {
    const auto found = gradients(
        [&](const variable_list &x) {
            return couple(x[0], x[1], species, weight, rows, terms, coefficients);
        },
        {a, b}, grad);
    return {found[0], found[1]};
}

Tensor scalar_convolution(const Tensor &x, const Tensor &radial, const Tensor &harmonics,
                          const Tensor &mix, const Tensor &edge_index, const Tensor &atoms) {
    using Signature = Tensor(const Tensor &, const Tensor &, const Tensor &, const Tensor &,
                             const Tensor &, int64_t);
    static const auto op = operator_of<Signature>("equicalc::scalar_convolution");
    return op.call(x, radial, harmonics, mix, edge_index, atoms.size(0));
}

std::tuple<Tensor, Tensor, Tensor> scalar_convolution_gradient(
    const Tensor &x, const Tensor &radial, const Tensor &harmonics, const Tensor &mix,
    const Tensor &edge_index, const Tensor &atoms, const Tensor &grad) {
    const auto found = gradients(
        [&](const variable_list &v) {
            return scalar_convolution(v[0], v[1], v[2], mix, edge_index, atoms);
        },
        {x, radial, harmonics}, grad);
    return {found[0], found[1], found[2]};
}

Tensor equivariant_convolution(const Tensor &x, const Tensor &radial, const Tensor &harmonics,
                               const Tensor &weight, const Tensor &edge_index, const Tensor &atoms,
                               const Tensor &rows, const Tensor &entries, const Tensor &terms,
                               const Tensor &coefficients) {
    using Signature =
        Tensor(const Tensor &, const Tensor &, const Tensor &, const Tensor &, const Tensor &,
               int64_t, const Tensor &, const Tensor &, const Tensor &, const Tensor &);
    static const auto op = operator_of<Signature>("equicalc::equivariant_convolution");
    return op.call(x, radial, harmonics, weight, edge_index, atoms.size(0), rows, entries, terms,
                   coefficients);
}

std::tuple<Tensor, Tensor, Tensor> equivariant_convolution_gradient(
    const Tensor &x, const Tensor &radial, const Tensor &harmonics, const Tensor &weight,
    const Tensor &edge_index, const Tensor &atoms, const Tensor &rows, const Tensor &entries,
    const Tensor &terms, const Tensor &coefficients, const Tensor &grad) {
    const auto found = gradients(
        [&](const variable_list &v) {
            return equivariant_convolution(v[0], v[1], v[2], weight, edge_index, atoms, rows,
                                           entries, terms, coefficients);
        },
        {x, radial, harmonics}, grad);
    return {found[0], found[1], found[2]};
}

template <typename F>
void define(torch::Library &library, const std::string &schema, F *function) {
    library.def(schema.c_str());
    library.impl(schema.substr(0, schema.find('(')).c_str(),
                 torch::dispatch(torch::kCPU, function));
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    const std::string tables = "Tensor rows, Tensor terms, Tensor coefficients";
    const std::string radial_inputs =
        "Tensor distance, Tensor w1, Tensor b1, Tensor w2, Tensor b2, float prefactor, "
        "float cutoff";
    define(library, "traced_radial(" + radial_inputs + ") -> Tensor", &radial);
    define(library, "traced_radial_gradient(" + radial_inputs + ", Tensor grad) -> Tensor",
           &radial_gradient);
    const std::string sum_inputs =
        "Tensor harmonics, Tensor weights, Tensor edge_index, Tensor atoms";
    define(library, "traced_outer_sum(" + sum_inputs + ") -> Tensor", &outer_sum);
    define(library,
           "traced_outer_sum_gradient(" + sum_inputs + ", Tensor grad) -> (Tensor, Tensor)",
           &outer_sum_gradient);
    const std::string couple_inputs =
        "Tensor a, Tensor b, Tensor species, Tensor weight, " + tables;
    define(library, "traced_couple(" + couple_inputs + ") -> Tensor", &couple);
    define(library,
           "traced_couple_gradient(" + couple_inputs + ", Tensor grad) -> (Tensor, Tensor)",
           &couple_gradient);
    const std::string convolution_inputs =
        "Tensor x, Tensor radial, Tensor harmonics, Tensor weight, Tensor edge_index, Tensor atoms";
    define(library, "traced_scalar_convolution(" + convolution_inputs + ") -> Tensor",
           &scalar_convolution);
    define(library,
           "traced_scalar_convolution_gradient(" + convolution_inputs +
               ", Tensor grad) -> (Tensor, Tensor, Tensor)",
           &scalar_convolution_gradient);
    const std::string full_inputs =
        convolution_inputs + ", Tensor rows, Tensor entries, Tensor terms, Tensor coefficients";
    define(library, "traced_equivariant_convolution(" + full_inputs + ") -> Tensor",
           &equivariant_convolution);
    define(library,
           "traced_equivariant_convolution_gradient(" + full_inputs +
               ", Tensor grad) -> (Tensor, Tensor, Tensor)",
           &equivariant_convolution_gradient);
}

}  // namespace equicalc
