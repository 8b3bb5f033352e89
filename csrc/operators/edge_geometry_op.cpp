// equicalc::edge_geometry(vectors [E, 3], l_max) -> distances [E] and harmonics [E, (l_max + 1)^2],
// component normalised and in e3nn's order, as equicalc.nn.spherical writes them.
#include "cuda/geometry.h"
#include "operators/fused_ops.h"

#include <tuple>

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

std::tuple<Tensor, Tensor> geometry_forward(const Tensor &edge_vectors, int64_t l_max) {
    TORCH_CHECK(edge_vectors.dim() == 2 && edge_vectors.size(1) == 3 && l_max >= 0 && l_max <= 3,
                "equicalc: edge_geometry takes vectors [E, 3] and l_max of 0 to 3, found ",
                edge_vectors.sizes(), " and ", l_max);
    const Tensor vectors = edge_vectors.contiguous();
    const int64_t n = vectors.size(0), width = (l_max + 1) * (l_max + 1);
    Tensor distance = torch::empty({n}, vectors.options());
    Tensor harmonics = torch::empty({n, width}, vectors.options());
    EQUICALC_DISPATCH(vectors.scalar_type(), "edge_geometry", [&] {
        run_items(vectors,
                  groups::GeometryValues<scalar_t>{l_max, vectors.const_data_ptr<scalar_t>(),
                                                   distance.mutable_data_ptr<scalar_t>(),
                                                   harmonics.mutable_data_ptr<scalar_t>()},
                  n);
    });
    return {distance, harmonics};
}

Tensor geometry_backward(const Tensor &edge_vectors, int64_t l_max, const Tensor &by_distance,
                         const Tensor &by_harmonics) {
    const Tensor vectors = edge_vectors.contiguous(), grad_distance = by_distance.contiguous();
    const Tensor grad_harmonics = by_harmonics.contiguous();
    const int64_t n = vectors.size(0);
    Tensor result = torch::empty_like(vectors);
    EQUICALC_DISPATCH(vectors.scalar_type(), "edge_geometry_backward", [&] {
        run_items(vectors,
                  groups::GeometryBackward<scalar_t>{l_max, vectors.const_data_ptr<scalar_t>(),
                                                     grad_distance.const_data_ptr<scalar_t>(),
                                                     grad_harmonics.const_data_ptr<scalar_t>(),
                                                     result.mutable_data_ptr<scalar_t>()},
                  n);
    });
    return result;
}

// What follows from a change of the gradient along `tangent`, [E, 3]: gradients by vectors (which
// needs second derivatives), by grad_distance and by grad_harmonics.
variable_list geometry_second(const Tensor &vectors, int64_t l_max, const Tensor &grad_distance,
                              const Tensor &grad_harmonics, const Tensor &tangent) {
    Tensor by_vectors = torch::empty_like(vectors), by_distance = torch::empty_like(grad_distance);
    Tensor by_harmonics = torch::empty_like(grad_harmonics);
    EQUICALC_DISPATCH(vectors.scalar_type(), "edge_geometry_second", [&] {
        run_items(
            vectors,
            groups::GeometrySecond<scalar_t>{
                l_max, vectors.const_data_ptr<scalar_t>(), grad_distance.const_data_ptr<scalar_t>(),
                grad_harmonics.const_data_ptr<scalar_t>(), tangent.const_data_ptr<scalar_t>(),
                by_vectors.mutable_data_ptr<scalar_t>(), by_distance.mutable_data_ptr<scalar_t>(),
                by_harmonics.mutable_data_ptr<scalar_t>()},
            vectors.size(0));
    });
    return {by_vectors, by_distance, by_harmonics};
}

// Inputs (vectors, grad_distance, grad_harmonics), output: gradient by vectors.
struct EdgeGeometryGradient : torch::autograd::Function<EdgeGeometryGradient> {
    static Tensor forward(AutogradContext *context, const Tensor &vectors,
                          const Tensor &grad_distance, const Tensor &grad_harmonics,
                          int64_t l_max) {
        static const auto op =
            operator_of<decltype(geometry_backward)>("equicalc::edge_geometry_backward");
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({vectors, grad_distance, grad_harmonics});
        context->saved_data["l_max"] = l_max;
        return op.call(vectors, l_max, grad_distance, grad_harmonics);
    }

    static variable_list backward(AutogradContext *context, const variable_list &tangents) {
        refuse_third_derivative("edge_geometry");
        const auto saved = context->get_saved_variables();
        variable_list found =
            geometry_second(saved[0].contiguous(), context->saved_data["l_max"].toInt(),
                            saved[1].contiguous(), saved[2].contiguous(), tangents[0].contiguous());
        found.emplace_back();
        return found;
    }
};

struct EdgeGeometry : torch::autograd::Function<EdgeGeometry> {
    static variable_list forward(AutogradContext *context, const Tensor &vectors, int64_t l_max) {
        // Through the dispatcher, where tracers of torch.export see one operator.
        static const auto op = operator_of<decltype(geometry_forward)>("equicalc::edge_geometry");
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({vectors});
        context->saved_data["l_max"] = l_max;
        const auto [distance, harmonics] = op.call(vectors, l_max);
        return {distance, harmonics};
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        return {EdgeGeometryGradient::apply(context->get_saved_variables()[0], grads[0], grads[1],
                                            context->saved_data["l_max"].toInt()),
                Tensor()};
    }
};

std::tuple<Tensor, Tensor> edge_geometry(const Tensor &vectors, int64_t l_max) {
    const variable_list found = EdgeGeometry::apply(vectors, l_max);
    return {found[0], found[1]};
}

std::tuple<Tensor, Tensor> geometry_meta(const Tensor &vectors, int64_t l_max) {
    const c10::SymInt n = vectors.sym_size(0);
    return {at::empty_symint({n}, vectors.options()),
            at::empty_symint({n, (l_max + 1) * (l_max + 1)}, vectors.options())};
}

Tensor geometry_backward_meta(const Tensor &vectors, int64_t, const Tensor &, const Tensor &) {
    return at::empty_like(vectors);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def("edge_geometry(Tensor vectors, int l_max) -> (Tensor, Tensor)");
    library.def(
        "edge_geometry_backward(Tensor vectors, int l_max, Tensor grad_distance, "
        "Tensor grad_harmonics) -> Tensor");
}

EQUICALC_REGISTER_KERNELS(edge_geometry, geometry_forward)
EQUICALC_REGISTER_AUTOGRAD(edge_geometry, edge_geometry)
EQUICALC_REGISTER(edge_geometry, geometry_meta, Meta)
EQUICALC_REGISTER_KERNELS(edge_geometry_backward, geometry_backward)
EQUICALC_REGISTER(edge_geometry_backward, geometry_backward_meta, Meta)

}  // namespace equicalc
