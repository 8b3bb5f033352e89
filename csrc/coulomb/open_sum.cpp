#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "coulomb/ewald.h"
#include "coulomb/waves.h"

namespace equicalc {

CoulombSum open_sum(const Charges &atoms, const CoulombOptions &options) {
    const std::size_t n = atoms.n;
    const double *charges = atoms.charges, *positions = atoms.positions, *sigmas = atoms.sigmas;
    CoulombSum result = empty_sum(n, options);
    const auto count = static_cast<std::int64_t>(n);
    std::vector<double> virials(9 * n, 0.0);
#pragma omp parallel for num_threads(std::max(1, options.threads)) schedule(static)
    for (std::int64_t i = 0; i < count; ++i) {
        double potential = 0.0, force[3] = {}, *virial = &virials[9 * i];
        for (std::int64_t j = 0; j < count; ++j) {
            if (j == i) {
                continue;
            }
            const double gamma = std::sqrt(0.5 / (sigmas[i] * sigmas[i] + sigmas[j] * sigmas[j]));
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
            potential += gamma * charges[j] * f;
            for (int a = 0; a < 3; ++a) {
                const double pull = gamma * gamma * gamma * charges[j] * g * d[a];
                force[a] += pull;
                for (int b = 0; b < 3; ++b) {
                    virial[3 * a + b] += 0.5 * pull * d[b];
                }
            }
        }
        result.potentials[i] = kCoulomb * potential;
        for (int a = 0; a < 3; ++a) {
            result.forces[3 * i + a] = kCoulomb * charges[i] * force[a];
        }
        for (int c = 0; c < 9; ++c) {
            virial[c] *= kCoulomb * charges[i];
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
