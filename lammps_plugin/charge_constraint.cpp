#include "charge_constraint.h"

#include <numeric>

namespace equicalc_lammps {

ChargeConstraint::ChargeConstraint(std::span<const double> weights, MPI_Comm ranks)
    : weights_(weights),
      ranks_(ranks),
      total_weight_(sum(std::accumulate(weights.begin(), weights.end(), 0.0))) {}

double ChargeConstraint::sum(double local) const {
    double total = 0.0;
    MPI_Allreduce(&local, &total, 1, MPI_DOUBLE, MPI_SUM, ranks_);
    return total;
}

std::vector<double> ChargeConstraint::apply(std::span<const double> raw_charges,
                                            double total_charge) const {
    const double excess =
        total_charge - sum(std::accumulate(raw_charges.begin(), raw_charges.end(), 0.0));
    std::vector<double> charges(raw_charges.begin(), raw_charges.end());
    for (size_t i = 0; i < charges.size(); ++i) {
        charges[i] += weights_[i] * (excess / total_weight_);
    }
    return charges;
}

std::vector<double> ChargeConstraint::transpose(std::span<const double> potentials) const {
    const double mean =
        sum(std::inner_product(weights_.begin(), weights_.end(), potentials.begin(), 0.0)) /
        total_weight_;
    std::vector<double> gradient(potentials.begin(), potentials.end());
    for (double &value : gradient) {
        value -= mean;
    }
    return gradient;
}

}  // namespace equicalc_lammps
