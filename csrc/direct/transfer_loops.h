// Charge that flows along edges. Included by the files that compile the kernels, one for each kind
// of processor.
#pragma once

#include "direct/kernels.h"
#include "vectors/lanes.h"

namespace equicalc::direct::EQUICALC_ISA {

// What one edge needs again and again.
template <typename T>
struct Flow {
    Eight<T> radial, slope, flow, pair[3];
    T unit[3];

    // own and other: ends of receiver and sender
    EQUICALC_INLINE Flow(const EdgeLayout &layout, const T *record, const T *own, const T *other)
        : radial(Eight<T>::load(record + layout.radial())),
          slope(Eight<T>::load(record + layout.slopes())),
          flow(Eight<T>::load(other)) {
        flow.add(T(-1), Eight<T>::load(own));
        for (int axis = 0; axis < 3; ++axis) {
            unit[axis] = record[layout.unit() + axis];
            pair[axis] = Eight<T>::load(own + (axis + 1) * kTransferRow<T>);
            pair[axis].add(T(1), Eight<T>::load(other + (axis + 1) * kTransferRow<T>));
            flow.add(unit[axis], pair[axis]);
        }
    }
    EQUICALC_INLINE T charge() const { return sum<T, 8>(radial * flow); }
};

template <typename T>
void transfer(const EdgeLayout &layout, const EdgeList &edges, const T *records, const T *own,
              const T *ends, const int64_t *offset, double *variables) {
    for (int64_t k = 0; k < edges.count; ++k) {
        const double *r = edges.vectors + 3 * edges[k];
        const double charge =
            Flow<T>(layout, records + k * layout.width(), own, ends + offset[k]).charge();
        variables[0] += charge;
        for (int axis = 0; axis < 3; ++axis) {
            variables[2 + axis] -= 0.5 * charge * r[axis];
        }
    }
}

// dL/d(charge that flows along an edge to its receiver).
inline double by_flow(const double *by_variables, const double *r) {
    return by_variables[0] -
           0.5 * (by_variables[2] * r[0] + by_variables[3] * r[1] + by_variables[4] * r[2]);
}

template <typename T>
void transfer_gradient(const EdgeLayout &layout, const EdgeList &edges, const T *records,
                       const T *own, const T *ends, const int64_t *offset,
                       const double *by_variables, T *by_own, double *by_vector, bool add) {
    Eight<T> by_potential = Eight<T>::zero(), by_dipole[3];
    for (int axis = 0; axis < 3; ++axis) {
        by_dipole[axis] = Eight<T>::zero();
    }
    for (int64_t k = 0; k < edges.count; ++k) {
        const T *record = records + k * layout.width();
        const double *r = edges.vectors + 3 * edges[k];
        const Flow<T> edge(layout, record, own, ends + offset[k]);
        const double by = by_flow(by_variables, r), charge = edge.charge();
        by_potential.add(T(-by), edge.radial);
        double turning[3], along = 0.0;
        for (int axis = 0; axis < 3; ++axis) {
            by_dipole[axis].add(T(by) * edge.unit[axis], edge.radial);
            turning[axis] = by * double(sum<T, 8>(edge.radial * edge.pair[axis]));
            along += turning[axis] * double(edge.unit[axis]);
        }
        const double inverse = record[layout.inverse()];
        const double by_distance = by * double(sum<T, 8>(edge.slope * edge.flow));
        double *to = by_vector + 3 * edges[k];
        for (int axis = 0; axis < 3; ++axis) {
            const double unit = edge.unit[axis];
            const double value = by_distance * unit + (turning[axis] - along * unit) * inverse -
                                 0.5 * charge * by_variables[2 + axis];
            to[axis] = add ? to[axis] + value : value;
        }
    }
    by_potential.store(by_own);
    for (int axis = 0; axis < 3; ++axis) {
        by_dipole[axis].store(by_own + (axis + 1) * kTransferRow<T>);
    }
}

template <typename T>
void transfer_gradient_on_sender(const EdgeLayout &layout, const EdgeList &edges, const T *records,
                                 const double *by_variables, const int64_t *target, T *by_other) {
    Eight<T> total[4];
    for (int row = 0; row < 4; ++row) {
        total[row] = Eight<T>::load(by_other + row * kTransferRow<T>);
    }
    for (int64_t k = 0; k < edges.count; ++k) {
        const T *record = records + k * layout.width();
        const auto radial = Eight<T>::load(record + layout.radial());
        const T by = T(by_flow(by_variables + target[k], edges.vectors + 3 * edges[k]));
        total[0].add(by, radial);
        for (int axis = 0; axis < 3; ++axis) {
            total[1 + axis].add(by * record[layout.unit() + axis], radial);
        }
    }
    for (int row = 0; row < 4; ++row) {
        total[row].store(by_other + row * kTransferRow<T>);
    }
}

}  // namespace equicalc::direct::EQUICALC_ISA
