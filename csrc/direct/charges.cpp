#include "direct/charges.h"

#include <algorithm>
#include <cmath>

#include "direct/packing.h"

namespace equicalc::direct {

AtomOutputs::AtomOutputs(const Parts &parts)
    : model_(parts.charge_model),
      n_outputs_(parts.tensor("readout.linear.weight").size(0)),
      energy_scale_(parts.tensor("energy_scale").item<double>()),
      reference_(values_of<double>(parts.tensor("reference_fixed"))),
      energy_bias_(values_of<double>(parts.tensor("readout.energy_bias"))) {
    for (double &reference : reference_) {
        reference *= parts.number("reference_unit");
    }
    if (model_ == ChargeModel::none) {
        return;
    }
    if (model_ == ChargeModel::equilibrated) {
        chi_ = values_of<double>(parts.tensor("charge_head.electronegativity"));
        hardness_ = values_of<double>(parts.tensor("charge_head.hardness"));
        chi_scale_ = parts.number("charge_head.electronegativity_scale");
        eta_scale_ = parts.number("charge_head.hardness_scale");
        least_ = values_of<double>(parts.tensor("charge_head.logarithm_of_sigma"));
        for (double &least : least_) {
            least = parts.number("charge_head.self_interaction") * std::exp(-least);
        }
        return;
    }
    const bool flows = model_ == ChargeModel::transferred;
    nominal_ = values_of<double>(flows ? parts.tensor("charge_head.formal_charges") /
                                             parts.tensor("charge_head.epsilon_inf").sqrt()
                                       : parts.tensor("charge_head.nominal_charges"));
    log_weight_ = values_of<double>(parts.tensor("charge_head.weights.logarithm"));
    weight_from_environment_ = parts.flag("charge_head.weights.from_environment");
    if (model_ == ChargeModel::predicted) {
        charge_scale_ = parts.number("charge_head.charge_scale");
    }
}

double AtomOutputs::weight(int64_t species, const Outputs &outputs) const {
    const double shift = weight_from_environment_ ? std::tanh(outputs[n_outputs_ - 1]) : 0.0;
    return std::exp(log_weight_[species] + shift);
}

void AtomOutputs::variables(int64_t species, const Outputs &outputs, double *out) const {
    if (model_ == ChargeModel::none) {
        return;
    }
    if (model_ == ChargeModel::equilibrated) {
        const double soft = hardness_[species] + 0.1 * outputs[2];
        const double softplus = soft > 30.0 ? soft : std::log1p(std::exp(soft));
        out[0] = chi_[species] + chi_scale_ * outputs[1];
        out[1] = least_[species] + eta_scale_ * softplus;
        return;
    }
    out[0] = nominal_[species] + charge_scale_ * outputs[1];
    out[1] = weight(species, outputs);
}

Outputs AtomOutputs::gradient(int64_t species, const Outputs &outputs, double by_energy,
                              const double *by_variables) const {
    Outputs result{by_energy * energy_scale_, 0.0, 0.0};
    if (by_variables == nullptr || model_ == ChargeModel::none) {
        return result;
    }
    if (model_ == ChargeModel::equilibrated) {
        const double soft = hardness_[species] + 0.1 * outputs[2];
        result[1] = by_variables[0] * chi_scale_;
        result[2] = by_variables[1] * eta_scale_ * 0.1 / (1.0 + std::exp(-soft));
        return result;
    }
    result[1] = by_variables[0] * charge_scale_;
    if (weight_from_environment_) {
        const double shift = std::tanh(outputs[n_outputs_ - 1]);
        result[n_outputs_ - 1] +=
            by_variables[1] * weight(species, outputs) * (1.0 - shift * shift);
    }
    return result;
}

Repulsion::Repulsion(const Parts &parts) {
    if (!parts.flag("has_repulsion")) {
        return;
    }
    coulomb_ = parts.number("repulsion.coulomb");
    bohr_ = parts.number("repulsion.bohr");
    cutoff_ = parts.number("repulsion.cutoff");
    numbers_ = values_of<double>(parts.tensor("repulsion.numbers"));
    radii_ = values_of<double>(parts.tensor("repulsion.radii"));
    coefficients_ = values_of<double>(parts.tensor("repulsion.coefficients"));
    exponents_ = values_of<double>(parts.tensor("repulsion.exponents"));
    const double reach = std::min(2.0 * *std::max_element(radii_.begin(), radii_.end()), cutoff_);
    reach_squared_ = reach * reach;
}

std::array<double, 2> Repulsion::half_energy(int64_t receiver, int64_t sender,
                                             double distance) const {
    const double reach = std::min(radii_[receiver] + radii_[sender], cutoff_);
    if (distance >= reach) {
        return {0.0, 0.0};
    }
    const double z_i = numbers_[receiver], z_j = numbers_[sender];
    const double length = 0.8854 * bohr_ / (std::pow(z_i, 0.23) + std::pow(z_j, 0.23));
    double screening = 0.0, screening_slope = 0.0;
    for (size_t k = 0; k < coefficients_.size(); ++k) {
        const double part = coefficients_[k] * std::exp(-exponents_[k] * distance / length);
        screening += part;
        screening_slope -= exponents_[k] / length * part;
    }
    const double x = distance / reach, x5 = x * x * x * x * x;
    const double cut = 1.0 - x5 * x * (28.0 - x * (48.0 - x * 21.0));
    const double cut_slope = -168.0 * x5 * (1.0 - x) * (1.0 - x) / reach;
    const double bare = 0.5 * coulomb_ * z_i * z_j / distance;
    return {bare * screening * cut,
            bare * (screening_slope * cut + screening * (cut_slope - cut / distance))};
}

}  // namespace equicalc::direct
