// The sum over waves on the mesh of mesh.h, for groups of lanes. Weights of waves are made anew
// whenever they are needed: nothing has to be kept while the cell changes.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/lanes.h"
#include "cuda/mesh.h"

namespace equicalc::groups {

// Weight t(k) / k^2 of a wave, here and in the exact sum, and its derivative by k^2.
struct WaveWeight {
    double value, slope;

    EQUICALC_BOTH WaveWeight(double k_sq, double inner, double outer) : value(0.0), slope(0.0) {
        if (k_sq >= outer || k_sq == 0.0) {
            return;
        }
        double taper = 1.0, taper_slope = 0.0;
        if (k_sq > inner) {
            // Quintic step in k^2: two continuous derivatives at both ends.
            const double u = (k_sq - inner) / (outer - inner);
            taper = 1.0 - u * u * u * (10.0 - 15.0 * u + 6.0 * u * u);
            taper_slope = -30.0 * u * u * (1.0 - u) * (1.0 - u) / (outer - inner);
        }
        value = taper / k_sq;
        slope = (taper_slope - value) / k_sq;
    }
};

// The half spectrum of a mesh, [n0][n1][n2 / 2 + 1].
struct WaveGrid {
    MeshGrid grid;
    double k_inner, k_outer;
    const double *influence, *kept;  // windows of the three directions, one after the other

    EQUICALC_BOTH int half() const { return grid.points[2] / 2 + 1; }
    EQUICALC_BOTH int64_t size() const {
        return static_cast<int64_t>(grid.points[0]) * grid.points[1] * half();
    }
    // Waves k and -k that one of the half spectrum stands for.
    EQUICALC_BOTH double multiplicity(int z) const {
        return z == 0 || 2 * z == grid.points[2] ? 1.0 : 2.0;
    }
};

// A row of waves (h1, h2, 0 ... n2 / 2).
struct WaveRow {
    const WaveGrid &waves;
    int x, y, h1, h2;

    EQUICALC_BOTH WaveRow(const WaveGrid &all, int64_t row)
        : waves(all),
          x(static_cast<int>(row / all.grid.points[1])),
          y(static_cast<int>(row % all.grid.points[1])),
          h1(2 * x > all.grid.points[0] ? x - all.grid.points[0] : x),
          h2(2 * y > all.grid.points[1] ? y - all.grid.points[1] : y) {}

    EQUICALC_BOTH double square(int z) const {
        constexpr double kTwoPi = 6.28318530717958647693;
        double sum = 0.0;
        EQUICALC_UNROLL
        for (int a = 0; a < 3; ++a) {
            const double *b = waves.grid.inverse + 3 * a;
            const double k = kTwoPi * (h1 * b[0] + h2 * b[1] + z * b[2]);
            sum += k * k;
        }
        return sum;
    }
    EQUICALC_BOTH WaveWeight weight(double k_sq) const {
        return {k_sq, waves.k_inner * waves.k_inner, waves.k_outer * waves.k_outer};
    }
    // Product of a window over the directions.
    EQUICALC_BOTH double window(const double *parts, int z) const {
        const int nx = waves.grid.points[0], ny = waves.grid.points[1];
        return parts[x] * parts[nx + y] * parts[nx + ny + z];
    }
};

// Sums over a row: of an energy, and of a stress times 1, h3 and h3^2.
struct WaveSums {
    double energy = 0.0, stress = 0.0, first = 0.0, second = 0.0;

    EQUICALC_BOTH void add(int z, double e, double s) {
        energy += e;
        stress += s;
        first += z * s;
        second += static_cast<double>(z) * z * s;
    }
    // Energy, and the moments 11, 22, 33, 23, 13, 12 of h.
    template <typename Group>
    EQUICALC_BOTH void store(const WaveRow &row, const Group &group, double *moments) const {
        const double e = group.sum(energy), s = group.sum(stress);
        const double s1 = group.sum(first), s2 = group.sum(second);
        if (group.index() == 0) {
            const double h1 = row.h1, h2 = row.h2;
            moments[0] = e;
            moments[1] = h1 * h1 * s;
            moments[2] = h2 * h2 * s;
            moments[3] = s2;
            moments[4] = h2 * s1;
            moments[5] = h1 * s1;
            moments[6] = h1 * h2 * s;
        }
    }
};

// Of a row: spectra of the charges become those of the potentials, and their energy and stress.
template <typename T>
struct FilterWaves {
    static constexpr bool kWarp = true;
    WaveGrid waves;
    int n_widths;
    const double *sigmas;  // [widths]
    T *spectra;            // [widths, n0, n1, n2 / 2 + 1, 2]
    double *moments;       // [rows, 7]

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t item, const Group &group) const {
        const WaveRow row(waves, item);
        T *own = spectra + 2 * item * waves.half();
        WaveSums sums;
        for (int z = group.index(); z < waves.half(); z += Group::kWidth) {
            filter(row, z, own + 2 * z, sums);
        }
        sums.store(row, group, moments + 7 * item);
    }

    EQUICALC_BOTH void filter(const WaveRow &row, int z, T *at, WaveSums &sums) const {
        const double k_sq = row.square(z);
        const WaveWeight weight = row.weight(k_sq);
        const int64_t spacing = 2 * waves.size();
        if (weight.value == 0.0) {
            for (int g = 0; g < n_widths; ++g) {
                at[g * spacing] = at[g * spacing + 1] = T(0);
            }
            return;
        }
        const double f = row.window(waves.influence, z);
        // S(k) and its derivative by k^2 at fixed spectra
        double re = 0.0, im = 0.0, re_slope = 0.0, im_slope = 0.0, damping = 0.0;
        for (int g = 0; g < n_widths; ++g) {
            const double half_square = 0.5 * sigmas[g] * sigmas[g];
            damping = ::exp(-half_square * k_sq);
            const double a = damping * at[g * spacing], b = damping * at[g * spacing + 1];
            re += a;
            im += b;
            re_slope -= half_square * a;
            im_slope -= half_square * b;
        }
        const double power = re * re + im * im, inner = re * re_slope + im * im_slope;
        const double value = f * weight.value, both = waves.multiplicity(z);
        sums.add(z, both * value * power, both * (f * weight.slope * power + 2.0 * value * inner));
        for (int g = 0; g < n_widths; ++g) {
            if (n_widths > 1) {
                damping = ::exp(-0.5 * sigmas[g] * sigmas[g] * k_sq);
            }
            at[g * spacing] = static_cast<T>(value * damping * re);
            at[g * spacing + 1] = static_cast<T>(value * damping * im);
        }
    }
};

// Of a row and a width: what the charges miss of their interaction with themselves, as an energy
// and a stress for a charge of 1 e.
struct MissingWaves {
    static constexpr bool kWarp = true;
    WaveGrid waves;
    int n_widths;
    const double *sigmas;
    double *moments;  // [rows, widths, 7]

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t item, const Group &group) const {
        const WaveRow row(waves, item / n_widths);
        const double sigma = sigmas[item % n_widths], sigma_sq = sigma * sigma;
        WaveSums sums;
        for (int z = group.index(); z < waves.half(); z += Group::kWidth) {
            const double k_sq = row.square(z);
            const WaveWeight weight = row.weight(k_sq);
            if (weight.value != 0.0) {
                const double lost = waves.multiplicity(z) * (1.0 - row.window(waves.kept, z));
                const double own = lost * ::exp(-sigma_sq * k_sq);
                sums.add(z, own * weight.value, own * (weight.slope - sigma_sq * weight.value));
            }
        }
        sums.store(row, group, moments + 7 * item);
    }
};

template <typename Registry>
void add_mesh_waves() {
    Registry::template add<FilterWaves<float>>();
    Registry::template add<FilterWaves<double>>();
    Registry::template add<MissingWaves>();
}

}  // namespace equicalc::groups
