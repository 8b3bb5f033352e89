#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "ewald.h"
#include "waves.h"

namespace equicalc {

CoulombSum open_sum(std::size_t n, const double *charges, const double *positions,
                    const CoulombOptions &options) {
    CoulombSum result = empty_sum(n, options);
    const double gamma = 0.5 / options.sigma;
    const auto count = static_cast<std::int64_t>(n);
    std::vector<double> virials(9 * n, 0.0);
#pragma omp parallel for num_threads(std::max(1, options.threads)) schedule(static)
    for (std::int64_t i = 0; i < count; ++i) {
        double potential = 0.0, force[3] = {}, *virial = &virials[9 * i];
        for (std::int64_t j = 0; j < count; ++j) {
            if (j == i) {
                continue;
            }
            double d[3];
            for (int x = 0; x < 3; ++x) {
                d[x] = positions[3 * i + x] - positions[3 * j + x];
            }
            const double x = gamma * std::hypot(d[0], d[1], d[2]);
            // f = erf(x) / x and g = -f'(x) / x; both by their power series where they would
            // cancel.
            double f = 0.0, g = 0.0;
            if (x < 0.5) {
                double term = 2.0 / std::sqrt(kPi);
                for (int m = 0; m < 13; ++m) {
                    f += term / (2 * m + 1);
                    term *= -x * x / (m + 1);
                    // Derivative of the next term of f, divided by -x.
                    g += term == 0.0 ? 0.0 : -term * (2 * m + 2) / ((2 * m + 3) * x * x);
                }
                if (x == 0.0) {
                    g = 4.0 / (3.0 * std::sqrt(kPi));
                }
            } else {
                f = std::erf(x) / x;
                g = (f - 2.0 / std::sqrt(kPi) * std::exp(-x * x)) / (x * x);
            }
            potential += charges[j] * f;
            for (int a = 0; a < 3; ++a) {
                const double pull = charges[j] * g * d[a];
                force[a] += pull;
                for (int b = 0; b < 3; ++b) {
                    virial[3 * a + b] += 0.5 * pull * d[b];
                }
            }
        }
        const double scale = kCoulomb * gamma;
        result.potentials[i] = scale * potential;
        for (int a = 0; a < 3; ++a) {
            result.forces[3 * i + a] = scale * gamma * gamma * charges[i] * force[a];
        }
        for (int c = 0; c < 9; ++c) {
            virial[c] *= scale * gamma * gamma * charges[i];
        }
    }
    for (std::size_t i = 0; i < n; ++i) {
        result.energy += 0.5 * charges[i] * result.potentials[i];
        for (int c = 0; c < 9; ++c) {
            result.virial[c] += virials[9 * i + c];
        }
    }
    if (options.atom_virials) {
        result.atom_virials = std::move(virials);
    }
    return result;
}

}  // namespace equicalc
