#include "heat_of_charges.h"

#include <algorithm>
#include <cmath>

namespace equicalc_lammps {
namespace {

// Over the atoms of all ranks.
struct Sums {
    double atoms = 0.0, weight = 0.0, potential = 0.0, from_reservoir = 0.0;
    std::array<double, 3> moment{};
};

HeatOfCharges zeros(int64_t n, int64_t columns) {
    HeatOfCharges result;
    for (torch::Tensor *weights :
         {&result.local, result.distant.data(), &result.distant[1], &result.distant[2]}) {
        *weights = torch::zeros({n, columns}, torch::kFloat64);
    }
    return result;
}

// Of the Coulomb energy between two sets of charges, which is linear in each.
std::vector<std::array<double, 3>> forces_between(std::span<const double> charges,
                                                  const std::vector<double> &others,
                                                  const CoulombForces &forces, MPI_Comm ranks) {
    double largest = 0.0;
    for (const double other : others) {
        largest = std::max(largest, std::abs(other));
    }
    MPI_Allreduce(MPI_IN_PLACE, &largest, 1, MPI_DOUBLE, MPI_MAX, ranks);
    std::vector<std::array<double, 3>> result(charges.size(), {0.0, 0.0, 0.0});
    if (largest == 0.0) {
        return result;
    }
    for (const double sign : {1.0, -1.0}) {
        std::vector<double> sum(charges.begin(), charges.end());
        for (size_t k = 0; k < sum.size(); ++k) {
            sum[k] += sign / largest * others[k];
        }
        const std::vector<std::array<double, 3>> found = forces(sum);
        for (size_t k = 0; k < sum.size(); ++k) {
            for (int axis = 0; axis < 3; ++axis) {
                result[k][axis] += 0.5 * sign * largest * found[k][axis];
            }
        }
    }
    return result;
}

// Charges of sum zero whose Coulomb energy and hardness answer to potentials: H^-1 of them.
std::vector<double> answer_to(const EquilibrationProblem &problem,
                              const std::vector<double> &potentials) {
    std::vector<double> chi(potentials.size());
    std::transform(potentials.begin(), potentials.end(), chi.begin(), std::negate<>());
    EquilibrationProblem linear = problem;
    linear.chi = chi;
    linear.total_charge = 0.0;
    return equilibrate(linear, std::vector<double>(chi.size(), 0.0)).charges;
}

}  // namespace

HeatOfCharges heat_of_charges(const torch::Tensor &variables, double shift,
                              const LongRange &long_range, MPI_Comm ranks) {
    const auto rows = variables.accessor<double, 2>();
    const int64_t n = variables.size(0);
    const bool flows = variables.size(1) > 2;
    const auto from_reservoir = [&](int64_t i) {
        return (flows ? 0.0 : rows[i][0]) + shift * rows[i][1];
    };
    Sums sums;
    sums.atoms = static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) {
        sums.weight += rows[i][1];
        sums.potential += rows[i][1] * long_range.potentials[i];
        sums.from_reservoir += from_reservoir(i);
        for (int axis = 0; axis < 3; ++axis) {
            sums.moment[axis] += rows[i][1] * long_range.source_moments[i][axis];
        }
    }
    static_assert(sizeof(Sums) == 7 * sizeof(double));
    MPI_Allreduce(MPI_IN_PLACE, &sums, 7, MPI_DOUBLE, MPI_SUM, ranks);

    const double level = sums.potential / sums.weight;
    HeatOfCharges result = zeros(n, variables.size(1));
    auto local = result.local.accessor<double, 2>();
    for (int64_t i = 0; i < n; ++i) {
        const double potential = long_range.potentials[i];
        local[i][0] = potential - (flows ? 0.0 : level);
        local[i][1] = shift * (potential - level);
        for (int axis = 0; axis < 3; ++axis) {
            auto distant = result.distant[axis].accessor<double, 2>();
            const double mean = sums.moment[axis] / sums.weight;
            distant[i][0] = 0.5 * (long_range.source_moments[i][axis] - mean);
            distant[i][1] = shift * distant[i][0];
        }
        result.reservoir.push_back(-level * (from_reservoir(i) - sums.from_reservoir / sums.atoms));
    }
    return result;
}

HeatOfCharges heat_of_equilibrium(const EquilibrationProblem &problem,
                                  std::span<const double> charges, const LongRange &long_range,
                                  const CoulombForces &forces) {
    const size_t n = charges.size();
    double sums[3] = {static_cast<double>(n), 0.0, 0.0};  // atoms, charge, l
    for (size_t i = 0; i < n; ++i) {
        sums[1] += charges[i];
        sums[2] += problem.chi[i] + problem.eta[i] * charges[i] + long_range.potentials[i];
    }
    MPI_Allreduce(MPI_IN_PLACE, sums, 3, MPI_DOUBLE, MPI_SUM, problem.ranks);
    const double mean = sums[1] / sums[0], level = sums[2] / sums[0];

    HeatOfCharges result = zeros(static_cast<int64_t>(n), 2);
    auto local = result.local.accessor<double, 2>();
    for (size_t i = 0; i < n; ++i) {
        local[i][0] = charges[i];
        local[i][1] = 0.5 * charges[i] * charges[i];
        result.reservoir.push_back(-level * (charges[i] - mean));
    }
    result.is_local_of_forces = true;
    result.moved.assign(n, {});
    for (int axis = 0; axis < 3; ++axis) {
        std::vector<double> moments(n);
        for (size_t i = 0; i < n; ++i) {
            moments[i] = long_range.source_moments[i][axis];
        }
        const std::vector<double> answers = answer_to(problem, moments);
        const auto pulls = forces_between(charges, answers, forces, problem.ranks);
        auto distant = result.distant[axis].accessor<double, 2>();
        for (size_t i = 0; i < n; ++i) {
            distant[i][0] = -0.5 * answers[i];
            distant[i][1] = -0.5 * answers[i] * charges[i];
            for (int b = 0; b < 3; ++b) {
                result.moved[i][3 * axis + b] = 0.5 * pulls[i][b];
            }
        }
    }
    return result;
}

}  // namespace equicalc_lammps
