#include "waves.h"

#include <cmath>

namespace equicalc {

Reciprocal make_reciprocal(const double *cell) {
    Reciprocal reciprocal;
    double volume = 0.0;
    for (int a = 0; a < 3; ++a) {
        const double *b = cell + 3 * ((a + 1) % 3);
        const double *c = cell + 3 * ((a + 2) % 3);
        for (int x = 0; x < 3; ++x) {
            const int y = (x + 1) % 3, z = (x + 2) % 3;
            reciprocal.inverse[x][a] = b[y] * c[z] - b[z] * c[y];
        }
    }
    for (int x = 0; x < 3; ++x) {
        volume += cell[x] * reciprocal.inverse[x][0];
    }
    for (auto &row : reciprocal.inverse) {
        for (double &value : row) {
            value /= volume;
        }
    }
    reciprocal.volume = std::abs(volume);
    return reciprocal;
}

Weight wave_weight(double k_sq, const CoulombOptions &options) {
    const double sigma_sq = options.sigma * options.sigma;
    const double x = sigma_sq * k_sq;
    const double inner = options.taper_inner * options.taper_inner;
    const double outer = options.taper_outer * options.taper_outer;
    if (x >= outer || k_sq == 0.0) {
        return {};
    }
    double taper = 1.0, taper_slope = 0.0;
    if (x > inner) {
        // Quintic step in k^2: two continuous derivatives at both ends.
        const double u = (x - inner) / (outer - inner);
        taper = 1.0 - u * u * u * (10.0 - 15.0 * u + 6.0 * u * u);
        taper_slope = -30.0 * u * u * (1.0 - u) * (1.0 - u) / (outer - inner);
    }
    const double gauss = sigma_sq * std::exp(-x) / x;
    return {gauss * taper, gauss * sigma_sq * (taper_slope - taper - taper / x)};
}

CoulombSum empty_sum(std::size_t n, const CoulombOptions &options) {
    CoulombSum result;
    result.potentials.assign(n, 0.0);
    result.forces.assign(3 * n, 0.0);
    if (options.atom_virials) {
        result.atom_virials.assign(9 * n, 0.0);
    }
    return result;
}

void add_self_and_background(std::size_t n, const double *charges, double volume,
                             const CoulombOptions &options, CoulombSum &result) {
    double total = 0.0, squares = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
        total += charges[i];
        squares += charges[i] * charges[i];
    }
    const double self = -kCoulomb / (2.0 * options.sigma * std::sqrt(kPi));
    const double background = -2.0 * kPi * options.sigma * options.sigma * kCoulomb / volume;
    result.energy += self * squares + background * total * total;
    for (std::size_t i = 0; i < n; ++i) {
        result.potentials[i] += 2.0 * (self * charges[i] + background * total);
    }
    for (int x = 0; x < 3; ++x) {
        result.virial[4 * x] += background * total * total;
        if (options.atom_virials) {
            for (std::size_t i = 0; i < n; ++i) {
                result.atom_virials[9 * i + 4 * x] += background * total * charges[i];
            }
        }
    }
}

}  // namespace equicalc
