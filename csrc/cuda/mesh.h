// The mesh sum of coulomb/mesh.h for groups of lanes: charges onto the mesh, and potentials and
// forces off it; mesh_waves.h has the sum over waves in between. Splines are made anew where they
// are needed: nothing has to be kept while the cell changes.
//
// Charges are spread as integers, multiples of a small unit. Atoms add to one point in any order,
// but sums of integers do not depend on it: the same bits every time.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/lanes.h"

namespace equicalc::groups {

// Points along the vectors of the cell, and its inverse: r . inverse are fractional coordinates.
struct MeshGrid {
    int points[3];
    double inverse[9];

    EQUICALC_BOTH int64_t size() const {
        return static_cast<int64_t>(points[0]) * points[1] * points[2];
    }
    // Along one direction. Not by indices that only a running kernel knows, for which the compiler
    // would copy arguments into memory.
    EQUICALC_BOTH int along(int a) const {
        return a == 0 ? points[0] : a == 1 ? points[1] : points[2];
    }
    EQUICALC_BOTH double fraction(const double *r, int a) const {
        double s = 0.0;
        EQUICALC_UNROLL
        for (int x = 0; x < 3; ++x) {
            const double *row = inverse + 3 * x;
            s += r[x] * (a == 0 ? row[0] : a == 1 ? row[1] : row[2]);
        }
        return s;
    }
    // Point (x, y, z) of a mesh; each less than one period beyond its end.
    EQUICALC_BOTH int64_t at(int x, int y, int z) const {
        x = x < points[0] ? x : x - points[0];
        y = y < points[1] ? y : y - points[1];
        z = z < points[2] ? z : z - points[2];
        return (static_cast<int64_t>(x) * points[1] + y) * points[2] + z;
    }
};

// The spline of an atom at its mesh points along the three vectors: values, derivatives by the
// fractional coordinate, and the first of the points.
template <typename T, int Order>
struct AtomSpline {
    T value[3][Order], slope[3][Order];
    int base[3];
};

// From the spline of order K - 1 at t, t + 1, ... to that of order K.
template <int K>
EQUICALC_BOTH void raise_spline(double t, double *values) {
    constexpr double scale = 1.0 / (K - 1);
    values[K - 1] = scale * (1.0 - t) * values[K - 2];
    EQUICALC_UNROLL
    for (int j = K - 2; j > 0; --j) {
        values[j] = scale * ((t + j) * values[j] + (K - t - j) * values[j - 1]);
    }
    values[0] *= scale * t;
}

template <int Order>
EQUICALC_BOTH void spline_values_of(double t, double *values) {
    if constexpr (Order == 2) {
        values[0] = t;
        values[1] = 1.0 - t;
    } else {
        spline_values_of<Order - 1>(t, values);
        raise_spline<Order>(t, values);
    }
}

// Three lanes make the spline of an atom, in memory of the group, and all may read it.
template <typename T, int Order, typename Group>
EQUICALC_BOTH void make_spline(const MeshGrid &grid, const double *position, const Group &group,
                               AtomSpline<T, Order> &spline) {
    for (int a = group.index(); a < 3; a += Group::kWidth) {
        const double s = grid.fraction(position, a);
        const int n = grid.along(a);
        // May round up to n, the spline then starts one point later; never outside of the mesh,
        // whatever the position is.
        const double u = ::fmin(::fmax((s - ::floor(s)) * n, 0.0), static_cast<double>(n));
        const double whole = ::floor(u), t = u - whole;
        double values[Order] = {};
        spline_values_of<Order - 1>(t, values);
        EQUICALC_UNROLL
        for (int c = 0; c < Order; ++c) {
            // Mesh points in ascending order are spline arguments in descending order.
            const int j = Order - 1 - c;
            const double after = j < Order - 1 ? values[j] : 0.0;
            const double before = j > 0 ? values[j - 1] : 0.0;
            spline.slope[a][c] = static_cast<T>(n * (after - before));
        }
        raise_spline<Order>(t, values);
        EQUICALC_UNROLL
        for (int c = 0; c < Order; ++c) {
            spline.value[a][c] = static_cast<T>(values[Order - 1 - c]);
        }
        spline.base[a] = (static_cast<int>(whole) - Order + 1 + 2 * n) % n;
    }
    group.meet();
}

// Adds the nearest integer.
EQUICALC_BOTH void add_rounded(int64_t *sum, double value) {
#ifdef __CUDA_ARCH__
    atomicAdd(reinterpret_cast<unsigned long long *>(sum),
              static_cast<unsigned long long>(__double2ll_rn(value)));
#else
    *sum += std::llrint(value);
#endif
}

// Of an atom: its charge, in units of 1 / scale, on the mesh of its width.
template <int Order>
struct SpreadCharges {
    static constexpr bool kWarp = true;
    MeshGrid grid;
    double scale;
    const double *positions, *charges;  // [n, 3], [n]
    const int32_t *members;             // [n] width of each; nullptr where there is one
    int64_t *meshes;                    // [widths, n0, n1, n2]

    int64_t memory_bytes() const { return sizeof(AtomSpline<double, Order>); }

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t atom, const Group &group) const {
        auto &spline = *static_cast<AtomSpline<double, Order> *>(group.memory);
        make_spline(grid, positions + 3 * atom, group, spline);
        const double charge = scale * charges[atom];
        int64_t *mesh = meshes + (members == nullptr ? 0 : members[atom]) * grid.size();
        for (int p = group.index(); p < Order * Order * Order; p += Group::kWidth) {
            const int x = p / (Order * Order), y = p / Order % Order, z = p % Order;
            add_rounded(mesh + grid.at(spline.base[0] + x, spline.base[1] + y, spline.base[2] + z),
                        charge * spline.value[0][x] * spline.value[1][y] * spline.value[2][z]);
        }
    }
};

// Of a mesh point: its charge.
template <typename T>
struct MeshCharges {
    static constexpr bool kWarp = false;
    double unit;
    const int64_t *counts;
    T *charges;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t point, const Group &) const {
        charges[point] = static_cast<T>(unit * static_cast<double>(counts[point]));
    }
};

// Of an atom: what it feels of the potential on the mesh of its width.
template <typename T, int Order>
struct GatherForces {
    static constexpr bool kWarp = true;
    MeshGrid grid;
    double scale;  // of the potential
    const double *positions, *charges;
    const int32_t *members;
    const T *meshes;
    double *forces, *potentials;  // [n, 3], [n]

    int64_t memory_bytes() const { return sizeof(AtomSpline<T, Order>); }

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t atom, const Group &group) const {
        auto &spline = *static_cast<AtomSpline<T, Order> *>(group.memory);
        make_spline(grid, positions + 3 * atom, group, spline);
        const T *mesh = meshes + (members == nullptr ? 0 : members[atom]) * grid.size();
        T sums[4] = {};  // slopes along the three vectors, value
        for (int p = group.index(); p < Order * Order * Order; p += Group::kWidth) {
            const int x = p / (Order * Order), y = p / Order % Order, z = p % Order;
            const T at = mesh[grid.at(spline.base[0] + x, spline.base[1] + y, spline.base[2] + z)];
            const T wx = spline.value[0][x], wy = spline.value[1][y], wz = spline.value[2][z];
            sums[0] += spline.slope[0][x] * wy * wz * at;
            sums[1] += wx * spline.slope[1][y] * wz * at;
            sums[2] += wx * wy * spline.slope[2][z] * at;
            sums[3] += wx * wy * wz * at;
        }
        double slopes[3];
        EQUICALC_UNROLL
        for (int a = 0; a < 3; ++a) {
            slopes[a] = group.sum(static_cast<double>(sums[a]));
        }
        const double value = group.sum(static_cast<double>(sums[3]));
        if (group.index() == 0) {
            EQUICALC_UNROLL
            for (int c = 0; c < 3; ++c) {
                const double *b = grid.inverse + 3 * c;
                forces[3 * atom + c] = -scale * charges[atom] *
                                       (b[0] * slopes[0] + b[1] * slopes[1] + b[2] * slopes[2]);
            }
            potentials[atom] = scale * value;
        }
    }
};

template <typename Registry, int Order = 3>
void add_mesh_orders() {
    Registry::template add<SpreadCharges<Order>>();
    Registry::template add<GatherForces<float, Order>>();
    Registry::template add<GatherForces<double, Order>>();
    if constexpr (Order < 8) {
        add_mesh_orders<Registry, Order + 1>();
    }
}

template <typename Registry>
void add_meshes() {
    add_mesh_orders<Registry>();
    Registry::template add<MeshCharges<float>>();
    Registry::template add<MeshCharges<double>>();
}

}  // namespace equicalc::groups
