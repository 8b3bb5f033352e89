// equicalc::edge_geometry(vectors [E, 3], l_max) -> distances [E] and harmonics [E, (l_max + 1)^2],
// component normalised and in e3nn's order, as equicalc.nn.spherical writes them.
#include "cuda/geometry.h"
#include "fused_ops.h"

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

Tensor geometry_backward(const Tensor &vectors, int64_t l_max, const Tensor &grad_distance,
                         const Tensor &grad_harmonics) {
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

struct EdgeGeometry : torch::autograd::Function<EdgeGeometry> {
    static variable_list forward(AutogradContext *context, const Tensor &vectors, int64_t l_max) {
        // Through the dispatcher, where tracers of torch.export see one operator.
        static const auto op = c10::Dispatcher::singleton()
                                   .findSchemaOrThrow("equicalc::edge_geometry", "")
                                   .typed<decltype(geometry_forward)>();
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({vectors});
        context->saved_data["l_max"] = l_max;
        const auto [distance, harmonics] = op.call(vectors, l_max);
        return {distance, harmonics};
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        TORCH_CHECK(!at::GradMode::is_enabled(),
                    "equicalc: edge_geometry has first derivatives only; set fused = False on the "
                    "modules of equicalc.nn to go through torch expressions");
        return {geometry_backward(context->get_saved_variables()[0].contiguous(),
                                  context->saved_data["l_max"].toInt(), grads[0].contiguous(),
                                  grads[1].contiguous()),
                Tensor()};
    }
};

std::tuple<Tensor, Tensor> edge_geometry(const Tensor &vectors, int64_t l_max) {
    const variable_list found = EdgeGeometry::apply(vectors, l_max);
    return {found[0], found[1]};
}

std::tuple<Tensor, Tensor> geometry_meta(const Tensor &vectors, int64_t l_max) {
    return {torch::empty({vectors.size(0)}, vectors.options()),
            torch::empty({vectors.size(0), (l_max + 1) * (l_max + 1)}, vectors.options())};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def("edge_geometry(Tensor vectors, int l_max) -> (Tensor, Tensor)");
}

EQUICALC_REGISTER(edge_geometry, geometry_forward, CPU)
EQUICALC_REGISTER(edge_geometry, geometry_forward, CUDA)
EQUICALC_REGISTER(edge_geometry, edge_geometry, AutogradCPU)
EQUICALC_REGISTER(edge_geometry, edge_geometry, AutogradCUDA)
EQUICALC_REGISTER(edge_geometry, geometry_meta, Meta)

}  // namespace equicalc
