// equicalc::edge_geometry: distances and real spherical harmonics of edges, and their gradient. The
// same source is for the CPU.
#pragma once

#include <cmath>

#include "operators/dual_numbers.h"
#include "cuda/lanes.h"

namespace equicalc::groups {

// Factors of the polynomials below, by degree.
inline constexpr double kOne = 1.7320508075688772935;      // sqrt(3)
inline constexpr double kTwo = 3.8729833462074168852;      // sqrt(15)
inline constexpr double kTwoZero = 2.2360679774997896964;  // sqrt(5)
inline constexpr double kThreeA = 2.0916500663351888699;   // sqrt(70) / 4
inline constexpr double kThreeB = 10.246950765959598383;   // sqrt(105)
inline constexpr double kThreeC = 1.6201851746019650804;   // sqrt(42) / 4
inline constexpr double kThreeD = 1.3228756555322952953;   // sqrt(7) / 2

template <typename T>
EQUICALC_BOTH void harmonics_of(int64_t l_max, T x, T y, T z, T *out) {
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
EQUICALC_BOTH void pull_back(int64_t l_max, T x, T y, T z, const T *g, T *out) {
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

    EQUICALC_BOTH explicit UnitVector(const T *v)
        : length(::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])),
          x(v[0] / length),
          y(v[1] / length),
          z(v[2] / length) {}
};

// Of an edge: distance [E] and harmonics [E, (l_max + 1)^2] from vectors [E, 3].
template <typename T>
struct GeometryValues {
    static constexpr bool kWarp = false;
    int64_t l_max;
    const T *vectors;
    T *distance, *harmonics;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &) const {
        const UnitVector<T> u(vectors + 3 * e);
        distance[e] = u.length;
        harmonics_of(l_max, u.x, u.y, u.z, harmonics + (l_max + 1) * (l_max + 1) * e);
    }
};

// Of an edge: dL/dvector.
template <typename T>
struct GeometryBackward {
    static constexpr bool kWarp = false;
    int64_t l_max;
    const T *vectors, *grad_distance, *grad_harmonics;
    T *grad_vectors;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &) const {
        const UnitVector<T> u(vectors + 3 * e);
        T g[3];
        pull_back(l_max, u.x, u.y, u.z, grad_harmonics + (l_max + 1) * (l_max + 1) * e, g);
        // harmonics see the direction only
        const T radial = g[0] * u.x + g[1] * u.y + g[2] * u.z;
        const T along = grad_distance[e] - radial / u.length;
        T *out = grad_vectors + 3 * e;
        out[0] = g[0] / u.length + along * u.x;
        out[1] = g[1] / u.length + along * u.y;
        out[2] = g[2] / u.length + along * u.z;
    }
};

// Of an edge: what follows from a change of the gradient along `tangent`, by vector (which needs
// second derivatives), by grad_distance and by grad_harmonics.
template <typename T>
struct GeometrySecond {
    static constexpr bool kWarp = false;
    int64_t l_max;
    const T *vectors, *grad_distance, *grad_harmonics, *tangent;
    T *by_vectors, *by_distance, *by_harmonics;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &) const {
        using Number = Dual<T>;
        const int64_t width = (l_max + 1) * (l_max + 1);
        const UnitVector<T> u(vectors + 3 * e);
        const T *change = tangent + 3 * e;
        const T stretch = u.x * change[0] + u.y * change[1] + u.z * change[2];
        const Number inverse(1 / u.length, -stretch / (u.length * u.length));
        const Number x(u.x, (change[0] - u.x * stretch) / u.length);
        const Number y(u.y, (change[1] - u.y * stretch) / u.length);
        const Number z(u.z, (change[2] - u.z * stretch) / u.length);
        Number harmonics[16], weights[16], g[3];
        harmonics_of(l_max, x, y, z, harmonics);
        for (int64_t m = 0; m < width; ++m) {
            weights[m] = grad_harmonics[width * e + m];
            by_harmonics[width * e + m] = harmonics[m].along;
        }
        by_distance[e] = stretch;
        pull_back(l_max, x, y, z, weights, g);
        const Number along = grad_distance[e] - (g[0] * x + g[1] * y + g[2] * z) * inverse;
        T *out = by_vectors + 3 * e;
        out[0] = (g[0] * inverse + along * x).along;
        out[1] = (g[1] * inverse + along * y).along;
        out[2] = (g[2] * inverse + along * z).along;
    }
};

template <typename Registry>
void add_geometry() {
    const auto add = []<typename T>(T) {
        Registry::template add<GeometryValues<T>>();
        Registry::template add<GeometryBackward<T>>();
        Registry::template add<GeometrySecond<T>>();
    };
    add(float{});
    add(double{});
}

}  // namespace equicalc::groups
