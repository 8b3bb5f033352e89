#include "charge_constraint.h"

namespace equicalc_lammps {

ChargeConstraint::ChargeConstraint(const torch::Tensor &variables, double total_charge,
                                   MPI_Comm ranks)
    : variables_(variables.contiguous()), ranks_(ranks), charges_(variables.size(0)) {
    const auto rows = variables_.accessor<double, 2>();
    double local[2] = {0.0, 0.0}, total[2];
    for (size_t i = 0; i < charges_.size(); ++i) {
        local[0] += rows[i][0];
        local[1] += rows[i][1];
    }
    MPI_Allreduce(local, total, 2, MPI_DOUBLE, MPI_SUM, ranks_);
    total_weight_ = total[1];
    shift_ = total_weight_ > 0.0 ? (total_charge - total[0]) / total_weight_ : 0.0;
    for (size_t i = 0; i < charges_.size(); ++i) {
        charges_[i] = rows[i][0] + rows[i][1] * shift_;
    }
}

torch::Tensor ChargeConstraint::gradient(std::span<const double> potentials) const {
    const auto rows = variables_.accessor<double, 2>();
    double local = 0.0, total = 0.0;
    for (size_t i = 0; i < potentials.size(); ++i) {
        local += rows[i][1] * potentials[i];
    }
    MPI_Allreduce(&local, &total, 1, MPI_DOUBLE, MPI_SUM, ranks_);
    const double mean = total_weight_ > 0.0 ? total / total_weight_ : 0.0;
    torch::Tensor gradient = torch::zeros_like(variables_);
    auto result = gradient.accessor<double, 2>();
    for (size_t i = 0; i < potentials.size(); ++i) {
        result[i][0] = potentials[i] - mean;
        result[i][1] = shift_ * (potentials[i] - mean);
    }
    return gradient;
}

}  // namespace equicalc_lammps
