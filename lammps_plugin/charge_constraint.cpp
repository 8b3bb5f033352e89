#include "charge_constraint.h"

namespace equicalc_lammps {

void ChargeConstraint::apply(const torch::Tensor &variables, double total_charge) {
    variables_ = variables.contiguous();
    charges_.resize(variables.size(0));
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

torch::Tensor ChargeConstraint::gradient(std::span<const double> potentials,
                                         std::span<const double> field_potentials) {
    const auto of_field = [&](size_t i) {
        return field_potentials.empty() ? 0.0 : field_potentials[i];
    };
    const auto rows = variables_.accessor<double, 2>();
    double means[2] = {0.0, 0.0};
    for (size_t i = 0; i < potentials.size(); ++i) {
        means[0] += rows[i][1] * potentials[i];
        means[1] += rows[i][1] * of_field(i);
    }
    MPI_Allreduce(MPI_IN_PLACE, means, 2, MPI_DOUBLE, MPI_SUM, ranks_);
    for (double &mean : means) {
        mean = total_weight_ > 0.0 ? mean / total_weight_ : 0.0;
    }
    const bool has_bond_dipoles = variables_.size(1) > 2;
    torch::Tensor gradient = gradient_memory_.get(variables_.sizes(), torch::kFloat64).zero_();
    auto result = gradient.accessor<double, 2>();
    for (size_t i = 0; i < potentials.size(); ++i) {
        const double centred = potentials[i] - means[0];
        const double in_field = of_field(i) - means[1];
        result[i][0] = centred + (has_bond_dipoles ? 0.0 : in_field);
        result[i][1] = shift_ * (centred + in_field);
    }
    variables_ = torch::Tensor();
    return gradient;
}

}  // namespace equicalc_lammps
