#include "charge_equilibration.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace equicalc_lammps {
namespace {

// Some tens of steps were seen from nothing, a few from the charges of the step before.
constexpr int kMostSteps = 500;

double product(const std::vector<double> &a, const std::vector<double> &b, MPI_Comm ranks) {
    double sum = 0.0;
    for (size_t k = 0; k < a.size(); ++k) {
        sum += a[k] * b[k];
    }
    MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_DOUBLE, MPI_SUM, ranks);
    return sum;
}

double largest(const std::vector<double> &values, MPI_Comm ranks) {
    double result = 0.0;
    for (const double value : values) {
        result = std::max(result, std::abs(value));
    }
    MPI_Allreduce(MPI_IN_PLACE, &result, 1, MPI_DOUBLE, MPI_MAX, ranks);
    return result;
}

std::string shortest(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3g", value);
    return text;
}

// eta q plus the potentials of charges q.
std::vector<double> response(const EquilibrationProblem &problem,
                             const std::vector<double> &charges) {
    std::vector<double> result = problem.potentials(charges);
    for (size_t k = 0; k < charges.size(); ++k) {
        result[k] += problem.eta[k] * charges[k];
    }
    return result;
}

}  // namespace

Equilibrium equilibrate(const EquilibrationProblem &problem, std::span<const double> start) {
    const size_t n = problem.chi.size();
    const std::vector<double> ones(n, 1.0);
    std::vector<double> softness(n);
    std::transform(problem.eta.begin(), problem.eta.end(), softness.begin(),
                   [](double eta) { return 1.0 / eta; });
    const double total_softness = product(softness, ones, problem.ranks);
    Equilibrium found{{start.begin(), start.end()}, 0};
    if (!(total_softness > 0.0)) {
        return found;  // no atom at all
    }
    std::vector<double> &charges = found.charges;
    const double missing = problem.total_charge - product(charges, ones, problem.ranks);
    for (size_t k = 0; k < n; ++k) {
        charges[k] += softness[k] * missing / total_softness;
    }

    std::vector<double> slope = response(problem, charges), direction(n, 0.0), scaled(n);
    for (size_t k = 0; k < n; ++k) {
        slope[k] += problem.chi[k];
    }
    double power = 1.0, error = 0.0;
    for (; found.steps < kMostSteps; ++found.steps) {
        // Without its common value, which would drown the rest in rounding.
        const double common = product(softness, slope, problem.ranks) / total_softness;
        for (size_t k = 0; k < n; ++k) {
            slope[k] -= common;
            scaled[k] = softness[k] * slope[k];
        }
        const double before = power;
        power = product(slope, scaled, problem.ranks);
        error = largest(slope, problem.ranks);
        if (error <= problem.tolerance || !std::isfinite(power)) {
            return found;
        }
        const double turn = found.steps == 0 ? 0.0 : power / before;
        for (size_t k = 0; k < n; ++k) {
            direction[k] = turn * direction[k] - scaled[k];
        }
        const std::vector<double> change = response(problem, direction);
        const double curvature = product(direction, change, problem.ranks);
        if (curvature <= 0.0) {
            throw std::runtime_error(
                "the energy has no minimum in the charges: the hardness of the model is smaller "
                "than the Coulomb interaction, or the KSPACE style is too inaccurate. Type "
                "'kspace_style equicalc 1e-6', or train the model again");
        }
        for (size_t k = 0; k < n; ++k) {
            charges[k] += power / curvature * direction[k];
            slope[k] += power / curvature * change[k];
        }
    }
    throw std::runtime_error(
        "charges did not settle within " + std::to_string(kMostSteps) +
        " steps: dE/dq still differs by " + shortest(error) + " V between atoms, needed are " +
        shortest(problem.tolerance) +
        " V. Type 'kspace_style equicalc 1e-5', or a smaller 'timestep' if atoms "
        "have come too close");
}

}  // namespace equicalc_lammps
