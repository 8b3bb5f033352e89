// equicalc::edge_geometry(vectors [E, 3], l_max) -> distances [E] and harmonics [E, (l_max + 1)^2],
// component normalised and in e3nn's order, as equicalc.nn.spherical writes them.
#include "fused_ops.h"

#include <cmath>
#include <tuple>

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kEdgeGrain = 2048;

// Factors of the polynomials below, by degree.
const double kOne = std::sqrt(3.0);
const double kTwo = std::sqrt(15.0), kTwoZero = std::sqrt(5.0);
const double kThreeA = std::sqrt(70.0) / 4, kThreeB = std::sqrt(105.0),
             kThreeC = std::sqrt(42.0) / 4, kThreeD = std::sqrt(7.0) / 2;

template <typename T>
void harmonics_of(int64_t l_max, T x, T y, T z, T *out) {
    out[0] = 1;
    if (l_max >= 1) {
        const T s = T(kOne);
        out[1] = s * x;
        out[2] = s * y;
        out[3] = s * z;
    }
    if (l_max >= 2) {
        const T s = T(kTwo);
        out[4] = s * x * z;
        out[5] = s * x * y;
        out[6] = T(kTwoZero) * (y * y - T(0.5) * (x * x + z * z));
        out[7] = s * y * z;
        out[8] = T(0.5) * s * (z * z - x * x);
    }
    if (l_max >= 3) {
        const T a = T(kThreeA), b = T(kThreeB), c = T(kThreeC), d = T(kThreeD);
        const T rest = 4 * y * y - x * x - z * z;
        out[9] = a * x * (3 * z * z - x * x);
        out[10] = b * x * y * z;
        out[11] = c * x * rest;
        out[12] = d * y * (2 * y * y - 3 * (x * x + z * z));
        out[13] = c * z * rest;
        out[14] = T(0.5) * b * y * (z * z - x * x);
        out[15] = a * z * (z * z - 3 * x * x);
    }
}

// Gradient by (x, y, z) of the sum of g times the polynomials.
template <typename T>
void pull_back(int64_t l_max, T x, T y, T z, const T *g, T *out) {
    T dx = 0, dy = 0, dz = 0;
    if (l_max >= 1) {
        const T s = T(kOne);
        dx += s * g[1];
        dy += s * g[2];
        dz += s * g[3];
    }
    if (l_max >= 2) {
        const T s = T(kTwo), t = T(kTwoZero);
        dx += s * (z * g[4] + y * g[5] - x * g[8]) - t * x * g[6];
        dy += s * (x * g[5] + z * g[7]) + 2 * t * y * g[6];
        dz += s * (x * g[4] + y * g[7] + z * g[8]) - t * z * g[6];
    }
    if (l_max >= 3) {
        const T a = T(kThreeA), b = T(kThreeB), c = T(kThreeC), d = T(kThreeD);
        const T xx = x * x, yy = y * y, zz = z * z, xy = x * y, xz = x * z, yz = y * z;
        dx += 3 * a * (zz - xx) * g[9] + b * yz * g[10] + c * (4 * yy - 3 * xx - zz) * g[11] -
              6 * d * xy * g[12] - 2 * c * xz * g[13] - b * xy * g[14] - 6 * a * xz * g[15];
        dy += b * xz * g[10] + 8 * c * xy * g[11] + d * (6 * yy - 3 * (xx + zz)) * g[12] +
              8 * c * yz * g[13] + T(0.5) * b * (zz - xx) * g[14];
        dz += 6 * a * xz * g[9] + b * xy * g[10] - 2 * c * xz * g[11] - 6 * d * yz * g[12] +
              c * (4 * yy - xx - 3 * zz) * g[13] + b * yz * g[14] + 3 * a * (zz - xx) * g[15];
    }
    out[0] = dx;
    out[1] = dy;
    out[2] = dz;
}

template <typename T>
struct UnitVector {
    T length, x, y, z;

    explicit UnitVector(const T *v)
        : length(std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])),
          x(v[0] / length),
          y(v[1] / length),
          z(v[2] / length) {}
};

std::tuple<Tensor, Tensor> geometry_forward(const Tensor &edge_vectors, int64_t l_max) {
    TORCH_CHECK(edge_vectors.dim() == 2 && edge_vectors.size(1) == 3 && l_max >= 0 && l_max <= 3,
                "equicalc: edge_geometry takes vectors [E, 3] and l_max of 0 to 3, found ",
                edge_vectors.sizes(), " and ", l_max);
    const Tensor vectors = edge_vectors.contiguous();
    const int64_t n = vectors.size(0), width = (l_max + 1) * (l_max + 1);
    Tensor distance = torch::empty({n}, vectors.options());
    Tensor harmonics = torch::empty({n, width}, vectors.options());
    EQUICALC_DISPATCH(vectors.scalar_type(), "edge_geometry", [&] {
        const auto *v = vectors.const_data_ptr<scalar_t>();
        auto *r = distance.mutable_data_ptr<scalar_t>();
        auto *y = harmonics.mutable_data_ptr<scalar_t>();
        at::parallel_for(0, n, kEdgeGrain, [&](int64_t begin, int64_t end) {
            for (int64_t e = begin; e < end; ++e) {
                const UnitVector<scalar_t> u(v + 3 * e);
                r[e] = u.length;
                harmonics_of(l_max, u.x, u.y, u.z, y + width * e);
            }
        });
    });
    return {distance, harmonics};
}

Tensor geometry_backward(const Tensor &vectors, int64_t l_max, const Tensor &grad_distance,
                         const Tensor &grad_harmonics) {
    const int64_t n = vectors.size(0), width = (l_max + 1) * (l_max + 1);
    Tensor result = torch::empty_like(vectors);
    EQUICALC_DISPATCH(vectors.scalar_type(), "edge_geometry_backward", [&] {
        const auto *v = vectors.const_data_ptr<scalar_t>();
        const auto *gr = grad_distance.const_data_ptr<scalar_t>();
        const auto *gy = grad_harmonics.const_data_ptr<scalar_t>();
        auto *out = result.mutable_data_ptr<scalar_t>();
        at::parallel_for(0, n, kEdgeGrain, [&](int64_t begin, int64_t end) {
            for (int64_t e = begin; e < end; ++e) {
                const UnitVector<scalar_t> u(v + 3 * e);
                scalar_t g[3];
                pull_back(l_max, u.x, u.y, u.z, gy + width * e, g);
                // harmonics see the direction only
                const scalar_t radial = g[0] * u.x + g[1] * u.y + g[2] * u.z;
                const scalar_t along = gr[e] - radial / u.length;
                out[3 * e] = g[0] / u.length + along * u.x;
                out[3 * e + 1] = g[1] / u.length + along * u.y;
                out[3 * e + 2] = g[2] / u.length + along * u.z;
            }
        });
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

TORCH_LIBRARY_IMPL(equicalc, CPU, library) { library.impl("edge_geometry", &geometry_forward); }
TORCH_LIBRARY_IMPL(equicalc, AutogradCPU, library) {
    library.impl("edge_geometry", &edge_geometry);
}
TORCH_LIBRARY_IMPL(equicalc, Meta, library) { library.impl("edge_geometry", &geometry_meta); }

}  // namespace equicalc
