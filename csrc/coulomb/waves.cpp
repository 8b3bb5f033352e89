#include "coulomb/waves.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cuda/mesh_waves.h"

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

void group_by_width(std::size_t n, const double *sigmas, WidthGroups &groups) {
    groups.sigma.clear();
    groups.start.clear();
    groups.order.resize(n);
    groups.member.resize(n);
    std::iota(groups.order.begin(), groups.order.end(), std::size_t{0});
    if (!std::all_of(sigmas, sigmas + n, [&](double sigma) { return sigma == sigmas[0]; })) {
        std::stable_sort(groups.order.begin(), groups.order.end(),
                         [&](std::size_t i, std::size_t j) { return sigmas[i] < sigmas[j]; });
    }
    for (std::size_t at = 0; at < n; ++at) {
        const std::size_t i = groups.order[at];
        if (at == 0 || sigmas[i] != groups.sigma.back()) {
            groups.sigma.push_back(sigmas[i]);
            groups.start.push_back(at);
        }
        groups.member[i] = groups.size() - 1;
    }
    groups.start.push_back(n);
}

Weight wave_weight(double k_sq, const CoulombOptions &options) {
    const double inner = options.k_inner * options.k_inner;
    const double outer = options.k_outer * options.k_outer;
    const groups::WaveWeight weight(k_sq, inner, outer);
    return {weight.value, weight.slope};
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

void add_self_and_background(std::size_t n, const double *charges, const double *sigmas,
                             double volume, const CoulombOptions &options, CoulombSum &result) {
    double total = 0.0, moment = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
        total += charges[i];
        moment += charges[i] * sigmas[i] * sigmas[i];
    }
    const double background = -2.0 * kPi * kCoulomb / volume;
    result.energy += background * total * moment;
    for (std::size_t i = 0; i < n; ++i) {
        const double self = -kCoulomb * charges[i] / (std::sqrt(kPi) * sigmas[i]);
        const double shared = background * (total * sigmas[i] * sigmas[i] + moment);
        result.energy += 0.5 * self * charges[i];
        result.potentials[i] += self + shared;
        for (int x = 0; options.atom_virials && x < 3; ++x) {
            result.atom_virials[9 * i + 4 * x] += 0.5 * shared * charges[i];
        }
    }
    for (int x = 0; x < 3; ++x) {
        result.virial[4 * x] += background * total * moment;
    }
}

}  // namespace equicalc
