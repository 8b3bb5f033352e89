// From the outputs of the readout to energies and charge variables (equicalc/nn/charges.py), and
// the repulsion of nuclei (equicalc/nn/repulsion.py). Numbers of single atoms and pairs, in double.
#pragma once

#include <array>
#include <vector>

#include "direct/parts.h"

namespace equicalc::direct {

// Outputs of the readout: the energy, and at most two more.
typedef std::array<double, 3> Outputs;

class AtomOutputs {
  public:
    explicit AtomOutputs(const Parts &parts);

    int64_t n_outputs() const { return n_outputs_; }
    double energy(int64_t species, const Outputs &outputs) const {
        return (outputs[0] + energy_bias_[species]) * energy_scale_ + reference_[species];
    }
    // The first two variables of the charge model. What flows along edges is not among them: for
    // transferred charges q~ is the formal charge, screened.
    void variables(int64_t species, const Outputs &outputs, double *out) const;
    // dL/d(outputs) from dL/d(energy) and dL/d(variables).
    Outputs gradient(int64_t species, const Outputs &outputs, double by_energy,
                     const double *by_variables) const;

  private:
    // Weight of the neutralisation.
    double weight(int64_t species, const Outputs &outputs) const;

    ChargeModel model_;
    bool weight_from_environment_ = false;
    int64_t n_outputs_ = 1;
    double energy_scale_, charge_scale_ = 0.0, chi_scale_ = 0.0, eta_scale_ = 0.0;
    std::vector<double> reference_, energy_bias_;
    std::vector<double> nominal_, log_weight_;    // charges and weights of neutralisation
    std::vector<double> chi_, hardness_, least_;  // equilibrated
};

class Repulsion {
  public:
    explicit Repulsion(const Parts &parts);

    // Whether a pair can repel at this squared distance.
    bool reaches(double squared_distance) const { return squared_distance < reach_squared_; }
    // The half of the pair energy that the receiver gets, and its slope.
    std::array<double, 2> half_energy(int64_t receiver, int64_t sender, double distance) const;

  private:
    double reach_squared_ = 0.0, coulomb_ = 0.0, bohr_ = 0.0, cutoff_ = 0.0;
    std::vector<double> numbers_, radii_, coefficients_, exponents_;
};

}  // namespace equicalc::direct
