// equicalc::edge_geometry(vectors [E, 3], l_max) -> distances [E] and harmonics [E, (l_max + 1)^2],
// component normalised and in e3nn's order, as equicalc.nn.spherical writes them.
#include "cuda/geometry.h"
#include "dual_numbers.h"
#include "fused_ops.h"

#include <tuple>

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kEdgeGrain = 2048;

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
    TORCH_CHECK(vectors.is_cpu(), "equicalc: edge_geometry has second derivatives on the CPU only");
    const int64_t n = vectors.size(0), width = (l_max + 1) * (l_max + 1);
    Tensor by_vectors = torch::empty_like(vectors), by_distance = torch::empty_like(grad_distance);
    Tensor by_harmonics = torch::empty_like(grad_harmonics);
    EQUICALC_DISPATCH(vectors.scalar_type(), "edge_geometry_second", [&] {
        using Number = Dual<scalar_t>;
        const auto *v = vectors.const_data_ptr<scalar_t>();
        const auto *t = tangent.const_data_ptr<scalar_t>();
        const auto *gr = grad_distance.const_data_ptr<scalar_t>();
        const auto *gy = grad_harmonics.const_data_ptr<scalar_t>();
        auto *dv = by_vectors.mutable_data_ptr<scalar_t>();
        auto *dr = by_distance.mutable_data_ptr<scalar_t>();
        auto *dy = by_harmonics.mutable_data_ptr<scalar_t>();
        at::parallel_for(0, n, kEdgeGrain, [&](int64_t begin, int64_t end) {
            for (int64_t e = begin; e < end; ++e) {
                const groups::UnitVector<scalar_t> u(v + 3 * e);
                const scalar_t *change = t + 3 * e;
                const scalar_t stretch = u.x * change[0] + u.y * change[1] + u.z * change[2];
                const Number inverse(1 / u.length, -stretch / (u.length * u.length));
                const Number x(u.x, (change[0] - u.x * stretch) / u.length);
                const Number y(u.y, (change[1] - u.y * stretch) / u.length);
                const Number z(u.z, (change[2] - u.z * stretch) / u.length);
                Number harmonics[16], weights[16], g[3];
                groups::harmonics_of(l_max, x, y, z, harmonics);
                for (int64_t m = 0; m < width; ++m) {
                    weights[m] = gy[width * e + m];
                    dy[width * e + m] = harmonics[m].along;
                }
                dr[e] = stretch;
                groups::pull_back(l_max, x, y, z, weights, g);
                const Number along = gr[e] - (g[0] * x + g[1] * y + g[2] * z) * inverse;
                dv[3 * e] = (g[0] * inverse + along * x).along;
                dv[3 * e + 1] = (g[1] * inverse + along * y).along;
                dv[3 * e + 2] = (g[2] * inverse + along * z).along;
            }
        });
    });
    return {by_vectors, by_distance, by_harmonics};
}

// Inputs (vectors, grad_distance, grad_harmonics), output: gradient by vectors.
struct EdgeGeometryGradient : torch::autograd::Function<EdgeGeometryGradient> {
    static Tensor forward(AutogradContext *context, const Tensor &vectors,
                          const Tensor &grad_distance, const Tensor &grad_harmonics,
                          int64_t l_max) {
        static const auto op = c10::Dispatcher::singleton()
                                   .findSchemaOrThrow("equicalc::edge_geometry_backward", "")
                                   .typed<decltype(geometry_backward)>();
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
    return {torch::empty({vectors.size(0)}, vectors.options()),
            torch::empty({vectors.size(0), (l_max + 1) * (l_max + 1)}, vectors.options())};
}

Tensor geometry_backward_meta(const Tensor &vectors, int64_t, const Tensor &, const Tensor &) {
    return torch::empty_like(vectors);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def("edge_geometry(Tensor vectors, int l_max) -> (Tensor, Tensor)");
    library.def(
        "edge_geometry_backward(Tensor vectors, int l_max, Tensor grad_distance, "
        "Tensor grad_harmonics) -> Tensor");
}

EQUICALC_REGISTER(edge_geometry, geometry_forward, CPU)
EQUICALC_REGISTER(edge_geometry, geometry_forward, CUDA)
EQUICALC_REGISTER(edge_geometry, edge_geometry, AutogradCPU)
EQUICALC_REGISTER(edge_geometry, edge_geometry, AutogradCUDA)
EQUICALC_REGISTER(edge_geometry, geometry_meta, Meta)
EQUICALC_REGISTER(edge_geometry_backward, geometry_backward, CPU)
EQUICALC_REGISTER(edge_geometry_backward, geometry_backward, CUDA)
EQUICALC_REGISTER(edge_geometry_backward, geometry_backward_meta, Meta)

}  // namespace equicalc
