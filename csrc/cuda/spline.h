// Cubic B-splines of tables of radial functions, see equicalc/nn/radial_table.py.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/lanes.h"

namespace equicalc::groups {

inline constexpr int kMaxSegments = 4;

// Splines on [first, last) of n equal intervals; the first of their n + 3 rows.
struct SplineSegment {
    double first, last;
    int64_t row, n;
};

// Knots are equally far from each other in u(r) = log(1 + r / stretch), or in r where that is zero:
// ends of segments are in this coordinate.
struct SplineKnots {
    SplineSegment segments[kMaxSegments];
    int64_t n_segments;
    double stretch;
};

// Row of the table, weights of four rows and their derivatives by r; zero from the cutoff on.
template <typename T>
EQUICALC_BOTH void spline_weights(const SplineKnots &knots, T distance, int32_t *row, T *weights,
                                  T *slopes) {
    const double r = distance;
    const double u = knots.stretch > 0.0 ? ::log1p(r / knots.stretch) : r;
    const double last = knots.segments[knots.n_segments - 1].last;
    if (!(u < last)) {
        *row = 0;
        for (int k = 0; k < 4; ++k) {
            // what is no number stays none
            weights[k] = slopes[k] = u >= last ? T(0) : distance;
        }
        return;
    }
    int64_t index = knots.n_segments - 1;
    while (index > 0 && u < knots.segments[index].first) {
        --index;
    }
    const SplineSegment &segment = knots.segments[index];
    const double per_interval = segment.n / (segment.last - segment.first);
    const double position = (u - segment.first) * per_interval;
    int64_t interval = static_cast<int64_t>(::floor(position));
    interval = interval < 0 ? 0 : (interval > segment.n - 1 ? segment.n - 1 : interval);
    const double t = position - interval, s = 1.0 - t;
    const double scale = knots.stretch > 0.0 ? per_interval / (knots.stretch + r) : per_interval;
    *row = static_cast<int32_t>(segment.row + interval);
    weights[0] = static_cast<T>(s * s * s / 6.0);
    weights[1] = static_cast<T>(t * t * (0.5 * t - 1.0) + 2.0 / 3.0);
    weights[2] = static_cast<T>(s * s * (0.5 * s - 1.0) + 2.0 / 3.0);
    weights[3] = static_cast<T>(t * t * t / 6.0);
    slopes[0] = static_cast<T>(-0.5 * s * s * scale);
    slopes[1] = static_cast<T>(t * (1.5 * t - 2.0) * scale);
    slopes[2] = static_cast<T>(-s * (1.5 * s - 2.0) * scale);
    slopes[3] = static_cast<T>(0.5 * t * t * scale);
}

// Of an edge: the above.
template <typename T>
struct EdgeSplines {
    static constexpr bool kWarp = false;
    SplineKnots knots;
    const T *distance;
    int32_t *row;         // [E]
    T *weights, *slopes;  // [E, 4]

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &) const {
        spline_weights(knots, distance[e], row + e, weights + 4 * e, slopes + 4 * e);
    }
};

}  // namespace equicalc::groups
