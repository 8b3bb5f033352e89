// Geometry of edges: harmonics, radial functions and the way back to edge vectors. Included by the
// files that compile the kernels, one for each kind of processor.
#pragma once

#include "direct/kernels.h"
#include "vectors/lanes.h"

namespace equicalc::direct::EQUICALC_ISA {

// Real spherical harmonics of equicalc/nn/spherical.py, one register for each component.
template <typename T>
EQUICALC_INLINE void harmonics(int64_t l_max, const Register<T> &px, const Register<T> &py,
                               const Register<T> &pz, Register<T> *y_lm) {
    const auto x = px.v[0], y = py.v[0], z = pz.v[0];
    const auto set = [&](int m, auto value) EQUICALC_LAMBDA { y_lm[m].v[0] = value; };
    const T s3 = T(1.7320508075688772), s15 = T(3.872983346207417), s5 = T(2.23606797749979);
    set(0, x - x + T(1));
    if (l_max >= 1) {
        set(1, s3 * x);
        set(2, s3 * y);
        set(3, s3 * z);
    }
    if (l_max >= 2) {
        set(4, s15 * x * z);
        set(5, s15 * x * y);
        set(6, s5 * (y * y - T(0.5) * (x * x + z * z)));
        set(7, s15 * y * z);
        set(8, T(0.5) * s15 * (z * z - x * x));
    }
    if (l_max >= 3) {
        const T s70 = T(2.091650066335189), s105 = T(10.246950765959598);
        const T s42 = T(1.6201851746019651), s7 = T(1.3228756555322954);
        const auto rest = T(4) * y * y - x * x - z * z;
        set(9, s70 * x * (T(3) * z * z - x * x));
        set(10, s105 * x * y * z);
        set(11, s42 * x * rest);
        set(12, s7 * y * (T(2) * y * y - T(3) * (x * x + z * z)));
        set(13, s42 * z * rest);
        set(14, T(0.5) * s105 * y * (z * z - x * x));
        set(15, s70 * z * (z * z - T(3) * x * x));
    }
}

// sum over lm of d_lm dY_lm/d(x, y, z), Y taken as the polynomials above.
template <typename T>
EQUICALC_INLINE void harmonics_gradient(int64_t l_max, const Register<T> &px, const Register<T> &py,
                                        const Register<T> &pz, const Register<T> *by,
                                        Register<T> *out) {
    const auto x = px.v[0], y = py.v[0], z = pz.v[0];
    const auto d = [&](int m) EQUICALC_LAMBDA { return by[m].v[0]; };
    const T s3 = T(1.7320508075688772), s15 = T(3.872983346207417), s5 = T(2.23606797749979);
    auto gx = x - x, gy = gx, gz = gx;
    if (l_max >= 1) {
        gx += s3 * d(1);
        gy += s3 * d(2);
        gz += s3 * d(3);
    }
    if (l_max >= 2) {
        gx += s15 * (z * d(4) + y * d(5) - x * d(8)) - s5 * x * d(6);
        gy += s15 * (x * d(5) + z * d(7)) + T(2) * s5 * y * d(6);
        gz += s15 * (x * d(4) + y * d(7) + z * d(8)) - s5 * z * d(6);
    }
    if (l_max >= 3) {
        const T s70 = T(2.091650066335189), s105 = T(10.246950765959598);
        const T s42 = T(1.6201851746019651), s7 = T(1.3228756555322954);
        const auto xx = x * x, yy = y * y, zz = z * z;
        gx += T(3) * s70 * (zz - xx) * d(9) + s105 * y * z * d(10) +
              s42 * (T(4) * yy - T(3) * xx - zz) * d(11) - T(6) * s7 * x * y * d(12) -
              T(2) * s42 * x * z * d(13) - s105 * x * y * d(14) - T(6) * s70 * x * z * d(15);
        gy += s105 * x * z * d(10) + T(8) * s42 * x * y * d(11) +
              s7 * (T(6) * yy - T(3) * (xx + zz)) * d(12) + T(8) * s42 * y * z * d(13) +
              T(0.5) * s105 * (zz - xx) * d(14);
        gz += T(6) * s70 * x * z * d(9) + s105 * x * y * d(10) - T(2) * s42 * x * z * d(11) -
              T(6) * s7 * y * z * d(12) + s42 * (T(4) * yy - xx - T(3) * zz) * d(13) +
              s105 * y * z * d(14) + T(3) * s70 * (zz - xx) * d(15);
    }
    out[0].v[0] = gx;
    out[1].v[0] = gy;
    out[2].v[0] = gz;
}

template <typename T>
EQUICALC_INLINE void radial_values(int64_t n_radial, const RadialTable<T> &table, double distance,
                                   T *values) {
    const double at = distance * table.per_interval;
    // beyond the last interval, and for what is not a number, the end of the last one: zero
    const bool inside = at < double(table.n_intervals);
    const int64_t interval = inside ? int64_t(at) : table.n_intervals - 1;
    const T t = inside ? T(at - double(interval)) : T(1);
    const T *row = table.coefficients + interval * 6 * n_radial;
    for (int64_t b = 0; b < n_radial; b += kRadialBlock) {
        Eight<T> value = Eight<T>::load(row + 5 * n_radial + b);
        Eight<T> slope = Eight<T>::zero();
        for (int power = 4; power >= 0; --power) {
            const auto next = Eight<T>::load(row + power * n_radial + b);
#pragma GCC unroll 16
            for (int i = 0; i < Eight<T>::kCount; ++i) {
                slope.v[i] = slope.v[i] * t + value.v[i];
                value.v[i] = value.v[i] * t + next.v[i];
            }
        }
#pragma GCC unroll 16
        for (int i = 0; i < Eight<T>::kCount; ++i) {
            slope.v[i] *= T(table.per_interval);
        }
        value.store(values + b);
        slope.store(values + n_radial + b);
    }
}

// Lengths and directions of kLanes edges; lanes beyond `count` repeat the first.
template <typename T>
struct Directions {
    static constexpr int kLanes = Register<T>::kLanes;
    double distance[kLanes], inverse[kLanes];
    T unit[3][kLanes];

    EQUICALC_INLINE Directions(const EdgeList &edges, int64_t first, int count) {
        double r[3][kLanes];
        for (int k = 0; k < kLanes; ++k) {
            const double *from = edges.vectors + 3 * edges[first + (k < count ? k : 0)];
            for (int axis = 0; axis < 3; ++axis) {
                r[axis][k] = from[axis];
            }
        }
        for (int k = 0; k < kLanes; ++k) {
            distance[k] = __builtin_sqrt(r[0][k] * r[0][k] + r[1][k] * r[1][k] + r[2][k] * r[2][k]);
        }
        for (int k = 0; k < kLanes; ++k) {
            inverse[k] = 1.0 / distance[k];
        }
        for (int axis = 0; axis < 3; ++axis) {
            for (int k = 0; k < kLanes; ++k) {
                unit[axis][k] = T(r[axis][k] * inverse[k]);
            }
        }
    }
};

template <typename T, int L>
EQUICALC_INLINE void edge_records_of(const EdgeLayout &layout, const RadialTable<T> &table,
                                     const EdgeList &edges, T *records) {
    constexpr int kLanes = Register<T>::kLanes, kInRow = L * L + 4;
    constexpr int kColumns = (kInRow + kLanes - 1) / kLanes * kLanes;
    const int64_t width = layout.width(), n_radial = layout.n_radial;
    for (int64_t first = 0; first < edges.count; first += kLanes) {
        const int count = int(edges.count - first < kLanes ? edges.count - first : kLanes);
        const Directions<T> lines(edges, first, count);
        Register<T> columns[kColumns];
        for (int axis = 0; axis < 3; ++axis) {
            columns[L * L + axis] = Register<T>::load(lines.unit[axis]);
        }
        T inverse[kLanes];
        for (int k = 0; k < kLanes; ++k) {
            inverse[k] = T(lines.inverse[k]);
        }
        columns[L * L + 3] = Register<T>::load(inverse);
        for (int m = kInRow; m < kColumns; ++m) {
            columns[m] = Register<T>::zero();
        }
        harmonics(L - 1, columns[L * L], columns[L * L + 1], columns[L * L + 2], columns);
#pragma GCC unroll 32
        for (int m = 0; m < kColumns; m += kLanes) {
            typename Register<T>::V rows[kLanes];
#pragma GCC unroll 16
            for (int k = 0; k < kLanes; ++k) {
                rows[k] = columns[m + k].v[0];
            }
            transpose<kLanes>(rows);
            for (int k = 0; k < count; ++k) {
                Register<T>{{rows[k]}}.store(records + (first + k) * width + m);
            }
        }
        for (int k = 0; k < count; ++k) {
            radial_values(n_radial, table, lines.distance[k],
                          records + (first + k) * width + EdgeLayout::radial_after(L * L));
        }
    }
}

template <typename T>
void edge_records(const EdgeLayout &layout, const RadialTable<T> &table, const EdgeList &edges,
                  T *records) {
    with_degrees(layout.l_max, [&](auto degrees) EQUICALC_LAMBDA {
        edge_records_of<T, degrees.value>(layout, table, edges, records);
    });
}

// Numbers of kLanes rows, one register for each place; rows beyond `count` repeat the first.
template <typename T, int kPlaces>
EQUICALC_INLINE void load_columns(const T *rows, int64_t width, int count, Register<T> *columns) {
    constexpr int kLanes = Register<T>::kLanes;
#pragma GCC unroll 32
    for (int place = 0; place < kPlaces; place += kLanes) {
        typename Register<T>::V block[kLanes];
#pragma GCC unroll 16
        for (int k = 0; k < kLanes; ++k) {
            block[k] = Register<T>::load(rows + (k < count ? k : 0) * width + place).v[0];
        }
        transpose<kLanes>(block);
#pragma GCC unroll 16
        for (int k = 0; k < kLanes; ++k) {
            columns[place + k].v[0] = block[k];
        }
    }
}

template <typename T, int L>
EQUICALC_INLINE void edge_gradients_of(const EdgeLayout &layout, const EdgeList &edges,
                                       const T *records, const T *gradients, double *by_vector,
                                       bool add) {
    constexpr int kLanes = Register<T>::kLanes;
    constexpr int kByRows = L * L + 1, kRecordRows = L * L + 4, kMost = 32;
    const int64_t width = layout.width(), gradient_width = layout.gradient_width();
    for (int64_t first = 0; first < edges.count; first += kLanes) {
        const int count = int(edges.count - first < kLanes ? edges.count - first : kLanes);
        Register<T> by[kMost], record[kMost], g[3];
        load_columns<T, kByRows>(gradients + first * gradient_width, gradient_width, count, by);
        load_columns<T, kRecordRows>(records + first * width, width, count, record);
        const Register<T> *unit = record + L * L, &inverse = record[L * L + 3];
        harmonics_gradient(L - 1, unit[0], unit[1], unit[2], by, g);
        // the direction turns, its length does not change
        const auto along =
            g[0].v[0] * unit[0].v[0] + g[1].v[0] * unit[1].v[0] + g[2].v[0] * unit[2].v[0];
        const auto radial = by[L * L].v[0] - along * inverse.v[0];
        T lanes[3][kLanes];
        for (int axis = 0; axis < 3; ++axis) {
            g[axis].v[0] = radial * unit[axis].v[0] + g[axis].v[0] * inverse.v[0];
            g[axis].store(lanes[axis]);
        }
        for (int k = 0; k < count; ++k) {
            double *to = by_vector + 3 * edges[first + k];
            for (int axis = 0; axis < 3; ++axis) {
                to[axis] = add ? to[axis] + double(lanes[axis][k]) : double(lanes[axis][k]);
            }
        }
    }
}

template <typename T>
void edge_gradients(const EdgeLayout &layout, const EdgeList &edges, const T *records,
                    const T *gradients, double *by_vector, bool add) {
    with_degrees(layout.l_max, [&](auto degrees) EQUICALC_LAMBDA {
        edge_gradients_of<T, degrees.value>(layout, edges, records, gradients, by_vector, add);
    });
}

template <typename T>
void species_sum(const SpeciesSum<T> &p, const T *records, const int64_t *sender_species,
                 int64_t count, T *sums) {
    const int64_t n_components = p.layout.n_harmonics(), n_radial = p.layout.n_radial;
    const int64_t width = p.layout.width(), at = p.layout.radial();
    for (int64_t k = 0; k < n_components * p.width; ++k) {
        sums[k] = T(0);
    }
    for (int64_t e = 0; e < count; ++e) {
        const T *record = records + e * width;
        const int64_t species = sender_species[e];
        for (int64_t kind = 0; kind < (p.embedding ? p.n_kinds : 1); ++kind) {
            const T factor = p.embedding ? p.embedding[species * p.n_kinds + kind] : T(1);
            T *out = sums + (p.embedding ? kind : species) * n_radial;
            for (int64_t b = 0; b < n_radial; b += kRadialBlock) {
                auto value = Eight<T>::zero();
                value.add(factor, Eight<T>::load(record + at + b));
                for (int64_t m = 0; m < n_components; ++m) {
                    auto total = Eight<T>::load(out + m * p.width + b);
                    total.add(record[m], value);
                    total.store(out + m * p.width + b);
                }
            }
        }
    }
}

template <typename T, int M>
EQUICALC_INLINE void species_sum_gradient_of(const SpeciesSum<T> &p, const T *records,
                                             const int64_t *sender_species, int64_t count,
                                             const T *by_sums, T *gradients) {
    const int64_t n_radial = p.layout.n_radial, width = p.layout.width();
    const int64_t gradient_width = p.layout.gradient_width();
    constexpr int64_t kRadial = EdgeLayout::radial_after(M);
    for (int64_t e = 0; e < count; ++e) {
        const T *record = records + e * width;
        const int64_t species = sender_species[e];
        Eight<T> by[M + 1];  // harmonics, distance
#pragma GCC unroll 32
        for (int m = 0; m <= M; ++m) {
            by[m] = Eight<T>::zero();
        }
        for (int64_t kind = 0; kind < (p.embedding ? p.n_kinds : 1); ++kind) {
            const T factor = p.embedding ? p.embedding[species * p.n_kinds + kind] : T(1);
            const T *from = by_sums + (p.embedding ? kind : species) * n_radial;
            for (int64_t b = 0; b < n_radial; b += kRadialBlock) {
                auto value = Eight<T>::zero(), slope = Eight<T>::zero(), row = Eight<T>::zero();
                value.add(factor, Eight<T>::load(record + kRadial + b));
                slope.add(factor, Eight<T>::load(record + kRadial + n_radial + b));
#pragma GCC unroll 16
                for (int m = 0; m < M; ++m) {
                    const auto g = Eight<T>::load(from + m * p.width + b);
                    by[m].add(value, g);
                    row.add(record[m], g);
                }
                by[M].add(slope, row);
            }
        }
        store_sums(by, gradients + e * gradient_width);
    }
}

template <typename T>
void species_sum_gradient(const SpeciesSum<T> &p, const T *records, const int64_t *sender_species,
                          int64_t count, const T *by_sums, T *gradients) {
    with_degrees(p.layout.l_max, [&](auto degrees) EQUICALC_LAMBDA {
        species_sum_gradient_of<T, degrees.value * degrees.value>(p, records, sender_species, count,
                                                                  by_sums, gradients);
    });
}

}  // namespace equicalc::direct::EQUICALC_ISA
