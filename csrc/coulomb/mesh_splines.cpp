#include "coulomb/mesh_splines.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "coulomb/mesh_filter.h"

namespace equicalc {
namespace {

// Calls f.template operator()<order>() for the order known at run time.
template <class Function>
void dispatch(int order, const Function &f) {
    switch (order) {
        case 3:
            return f.template operator()<3>();
        case 4:
            return f.template operator()<4>();
        case 5:
            return f.template operator()<5>();
        case 6:
            return f.template operator()<6>();
        case 7:
            return f.template operator()<7>();
        case 8:
            return f.template operator()<8>();
        default:
            throw std::invalid_argument("the order of the spline must lie between 3 and 8; found " +
                                        std::to_string(order));
    }
}

// First mesh point of a spline, and where in it the atom is, 0 <= t < 1.
struct Place {
    int base;
    double t;
};

inline Place place_of(const double *position, const Reciprocal &reciprocal, int axis, int points,
                      int order) {
    double s = 0.0;
    for (int x = 0; x < 3; ++x) {
        s += position[x] * reciprocal.inverse[x][axis];
    }
    const double u = (s - std::floor(s)) * points;
    // s - floor(s) may round up to 1: the spline then starts one point later, at t = 0.
    const double whole = std::floor(u);
    const int base = static_cast<int>(whole) - order + 1;
    return {base < 0 ? base + points : base, u - whole};
}

}  // namespace

template <class Real>
MeshSplines<Real>::MeshSplines(const int *points, int order, std::array<int, 2> planes,
                               std::size_t groups, int threads)
    : order_(order), threads_(threads), planes_(planes) {
    dispatch(order, []<int> {});
    for (int a = 0; a < 3; ++a) {
        if (points[a] < order) {
            throw std::invalid_argument("a mesh for splines of order " + std::to_string(order) +
                                        " needs as many points in each direction; found " +
                                        std::to_string(points[a]));
        }
        points_[a] = points[a];
    }
    starts_.resize(groups * points_[0] + 1);
}

template <class Real>
void MeshSplines<Real>::set(std::size_t n, const double *positions, const std::size_t *members,
                            const Reciprocal &reciprocal) {
    sort(n, positions, members, reciprocal);
    bases_.resize(3 * size());
    weights_.resize(3 * size() * kSplineWidth);
    slopes_.resize(3 * size() * kSplineWidth);
    dispatch(order_, [&]<int Order> { fill<Order>(positions, reciprocal); });
}

template <class Real>
bool MeshSplines<Real>::reaches_share(int base) const {
    const int n = points_[0], first = planes_[0], last = planes_[1];
    const int ahead = first >= base ? first - base : first - base + n;
    return first < last && (ahead < order_ || (base >= first && base < last));
}

template <class Real>
void MeshSplines<Real>::sort(std::size_t n, const double *positions, const std::size_t *members,
                             const Reciprocal &reciprocal) {
    bins_.resize(n);
    const auto count = static_cast<std::int64_t>(n);
#pragma omp parallel for num_threads(threads_) schedule(static)
    for (std::int64_t i = 0; i < count; ++i) {
        const int base = place_of(positions + 3 * i, reciprocal, 0, points_[0], order_).base;
        const std::int64_t group = members != nullptr ? members[i] : 0;
        bins_[i] = reaches_share(base) ? group * points_[0] + base : -1;
    }
    std::fill(starts_.begin(), starts_.end(), 0);
    for (const std::int64_t bin : bins_) {
        if (bin >= 0) {
            ++starts_[bin + 1];
        }
    }
    for (std::size_t b = 1; b < starts_.size(); ++b) {
        starts_[b] += starts_[b - 1];
    }
    atoms_.resize(starts_.back());
    next_.assign(starts_.begin(), starts_.end() - 1);
    for (std::size_t i = 0; i < n; ++i) {
        if (bins_[i] >= 0) {
            atoms_[next_[bins_[i]]++] = i;
        }
    }
}

template <class Real>
template <int Order>
void MeshSplines<Real>::fill(const double *positions, const Reciprocal &reciprocal) {
    const auto count = static_cast<std::int64_t>(size());
#pragma omp parallel for num_threads(threads_) schedule(static)
    for (std::int64_t at = 0; at < count; ++at) {
        for (int a = 0; a < 3; ++a) {
            const Place place =
                place_of(positions + 3 * atoms_[at], reciprocal, a, points_[a], Order);
            double lower[Order + 1] = {}, value[Order + 1];
            spline_values(place.t, Order - 1, value);
            std::copy(value, value + Order - 1, lower + 1);
            raise_spline(place.t, Order, value);
            bases_[3 * at + a] = place.base;
            Real *w = &weights_[(3 * at + a) * kSplineWidth];
            Real *d = &slopes_[(3 * at + a) * kSplineWidth];
            for (int c = 0; c < Order; ++c) {
                // Mesh points in ascending order are spline arguments in descending order.
                const int j = Order - 1 - c;
                w[c] = static_cast<Real>(value[j]);
                d[c] = static_cast<Real>(points_[a] * (lower[j + 1] - lower[j]));
            }
            std::fill(w + Order, w + kSplineWidth, Real(0));
            std::fill(d + Order, d + kSplineWidth, Real(0));
        }
    }
}

template class MeshSplines<float>;
template class MeshSplines<double>;

}  // namespace equicalc
