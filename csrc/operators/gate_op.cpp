// equicalc::gate: the nonlinearity of gated networks in one pass, for evaluation.
#include "cuda/gate.h"
#include "operators/fused_ops.h"
#include "operators/gate_kernels.h"

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Scalars and blocks as equicalc.nn.gate describes them; activations by number.
kernels::GateLayout read_layout(at::IntArrayRef scalar_sizes, at::IntArrayRef activations,
                                at::ArrayRef<double> factors, at::IntArrayRef multiplicities,
                                at::IntArrayRef components) {
    const auto n_scalars = scalar_sizes.size(), n_blocks = multiplicities.size();
    TORCH_CHECK(activations.size() == n_scalars + 1 && factors.size() == n_scalars + 1 &&
                    components.size() == n_blocks,
                "equicalc: gate takes an activation and a factor for each group of scalars and for "
                "the gates, and as many components as multiplicities");
    kernels::GateLayout layout;
    const auto activation = [&](size_t k) {
        TORCH_CHECK(activations[k] == 0 || activations[k] == 1,
                    "equicalc: gate knows the activations 0 (silu) and 1 (tanh), found ",
                    activations[k]);
        return static_cast<kernels::Activation>(activations[k]);
    };
    int64_t start = 0;
    for (size_t k = 0; k < n_scalars; ++k) {
        layout.scalars.push_back({start, scalar_sizes[k], activation(k), factors[k]});
        start += scalar_sizes[k];
    }
    layout.activation = activation(n_scalars);
    layout.factor = factors[n_scalars];
    int64_t gate = start, out = start, in = start;
    for (const int64_t mul : multiplicities) {
        in += mul;
    }
    for (size_t k = 0; k < n_blocks; ++k) {
        layout.blocks.push_back({gate, in, out, components[k], multiplicities[k]});
        gate += multiplicities[k];
        in += components[k] * multiplicities[k];
        out += components[k] * multiplicities[k];
    }
    layout.width_in = in;
    layout.width_out = out;
    return layout;
}

groups::GateLayout group_layout(const kernels::GateLayout &layout) {
    TORCH_CHECK(layout.scalars.size() <= groups::kMaxGateParts &&
                    layout.blocks.size() <= groups::kMaxGateParts,
                "equicalc: gate takes at most ", groups::kMaxGateParts,
                " groups of scalars and blocks on this device; set fused = False on the modules of "
                "equicalc.nn");
    groups::GateLayout result{};
    result.n_scalars = static_cast<int>(layout.scalars.size());
    result.n_blocks = static_cast<int>(layout.blocks.size());
    std::copy(layout.scalars.begin(), layout.scalars.end(), result.scalars);
    std::copy(layout.blocks.begin(), layout.blocks.end(), result.blocks);
    result.activation = layout.activation;
    result.factor = layout.factor;
    result.width_in = layout.width_in;
    result.width_out = layout.width_out;
    return result;
}

Tensor gate_forward(const Tensor &features, at::IntArrayRef scalar_sizes,
                    at::IntArrayRef activations, at::ArrayRef<double> factors,
                    at::IntArrayRef multiplicities, at::IntArrayRef components) {
    const auto layout = read_layout(scalar_sizes, activations, factors, multiplicities, components);
    TORCH_CHECK(features.dim() == 2 && features.size(1) == layout.width_in,
                "equicalc: gate takes [n, ", layout.width_in, "], found ", features.sizes());
    const Tensor x = features.contiguous();
    Tensor out = torch::empty({x.size(0), layout.width_out}, x.options());
    EQUICALC_DISPATCH(x.scalar_type(), "gate", [&] {
        const auto *in = x.const_data_ptr<scalar_t>();
        auto *to = out.mutable_data_ptr<scalar_t>();
        if (uses_groups(x)) {
            run_groups(x, groups::GateValues<scalar_t>{group_layout(layout), in, to}, x.size(0));
            return;
        }
        at::parallel_for(0, x.size(0), kGrain, [&](int64_t begin, int64_t end) {
            kernels::gate(layout, end - begin, in + begin * layout.width_in,
                          to + begin * layout.width_out);
        });
    });
    return out;
}

Tensor gate_backward(const Tensor &grad, const Tensor &features, at::IntArrayRef scalar_sizes,
                     at::IntArrayRef activations, at::ArrayRef<double> factors,
                     at::IntArrayRef multiplicities, at::IntArrayRef components) {
    const auto layout = read_layout(scalar_sizes, activations, factors, multiplicities, components);
    const Tensor x = features.contiguous(), g = grad.contiguous();
    Tensor result = torch::empty_like(x);
    EQUICALC_DISPATCH(x.scalar_type(), "gate_backward", [&] {
        const auto *in = x.const_data_ptr<scalar_t>();
        const auto *from = g.const_data_ptr<scalar_t>();
        auto *to = result.mutable_data_ptr<scalar_t>();
        if (uses_groups(x)) {
            run_groups(x, groups::GateBackward<scalar_t>{group_layout(layout), in, from, to},
                       x.size(0));
            return;
        }
        at::parallel_for(0, x.size(0), kGrain, [&](int64_t begin, int64_t end) {
            kernels::gate_backward(layout, end - begin, in + begin * layout.width_in,
                                   from + begin * layout.width_out, to + begin * layout.width_in);
        });
    });
    return result;
}

// Both ways go through the dispatcher, where tracers of torch.export see one operator.
struct Gate : torch::autograd::Function<Gate> {
    static Tensor forward(AutogradContext *context, const Tensor &x,
                          const std::vector<int64_t> &scalar_sizes,
                          const std::vector<int64_t> &activations,
                          const std::vector<double> &factors,
                          const std::vector<int64_t> &multiplicities,
                          const std::vector<int64_t> &components) {
        static const auto op = operator_of<decltype(gate_forward)>("equicalc::gate");
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({x});
        context->saved_data["scalar_sizes"] = scalar_sizes;
        context->saved_data["activations"] = activations;
        context->saved_data["factors"] = factors;
        context->saved_data["multiplicities"] = multiplicities;
        context->saved_data["components"] = components;
        return op.call(x, scalar_sizes, activations, factors, multiplicities, components);
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        refuse_second_derivative("gate");
        static const auto op = operator_of<decltype(gate_backward)>("equicalc::gate_backward");
        auto &data = context->saved_data;
        variable_list result(6);
        result[0] =
            op.call(grads[0], context->get_saved_variables()[0], data["scalar_sizes"].toIntVector(),
                    data["activations"].toIntVector(), data["factors"].toDoubleVector(),
                    data["multiplicities"].toIntVector(), data["components"].toIntVector());
        return result;
    }
};

Tensor gate(const Tensor &x, at::IntArrayRef scalar_sizes, at::IntArrayRef activations,
            at::ArrayRef<double> factors, at::IntArrayRef multiplicities,
            at::IntArrayRef components) {
    return Gate::apply(x, scalar_sizes.vec(), activations.vec(), factors.vec(),
                       multiplicities.vec(), components.vec());
}

Tensor gate_meta(const Tensor &x, at::IntArrayRef, at::IntArrayRef, at::ArrayRef<double>,
                 at::IntArrayRef multiplicities, at::IntArrayRef) {
    int64_t n_gates = 0;
    for (const int64_t mul : multiplicities) {
        n_gates += mul;
    }
    return at::empty_symint({x.sym_size(0), x.sym_size(1) - n_gates}, x.options());
}

Tensor gate_backward_meta(const Tensor &, const Tensor &x, at::IntArrayRef, at::IntArrayRef,
                          at::ArrayRef<double>, at::IntArrayRef, at::IntArrayRef) {
    return at::empty_like(x);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def(
        "gate(Tensor x, int[] scalar_sizes, int[] activations, float[] factors, "
        "int[] multiplicities, int[] components) -> Tensor");
    library.def(
        "gate_backward(Tensor grad, Tensor x, int[] scalar_sizes, int[] activations, "
        "float[] factors, int[] multiplicities, int[] components) -> Tensor");
}

EQUICALC_REGISTER_KERNELS(gate, gate_forward)
EQUICALC_REGISTER_AUTOGRAD(gate, gate)
EQUICALC_REGISTER(gate, gate_meta, Meta)
EQUICALC_REGISTER_KERNELS(gate_backward, gate_backward)
EQUICALC_REGISTER(gate_backward, gate_backward_meta, Meta)

}  // namespace equicalc
