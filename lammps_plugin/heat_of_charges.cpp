#include "heat_of_charges.h"

namespace equicalc_lammps {
namespace {

// Over the atoms of all ranks.
struct Sums {
    double atoms = 0.0, weight = 0.0, potential = 0.0, from_reservoir = 0.0;
    std::array<double, 3> moment{};
};

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
    HeatOfCharges result;
    for (torch::Tensor *weights :
         {&result.local, result.distant.data(), &result.distant[1], &result.distant[2]}) {
        *weights = torch::zeros_like(variables);
    }
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

}  // namespace equicalc_lammps
