// pair_style equicalc [precision float64|float32|mixed] [device cpu|cuda|auto] [charge Q]
//                     [efield Ex Ey Ez] [ghosts exchange|extended] [deviation N]
//                     [contacts warn|stop|ignore]
// pair_coeff * * MODEL [MODEL ...] El1 El2 ...
//
// MODEL is a file or the name of a shipped model; each atom type gets a chemical element, or NULL
// for atoms the model does not describe. Several models make a committee: energies, forces, virial
// and charges are means over the models, each of which has a Coulomb energy of its own. Defaults:
// precision float64, total charge 0, no field. A model with charges also needs a kspace_style
// (kspace_equicalc.h, or one of LAMMPS), unless no direction is periodic. All numbers are in the
// units of the deck: `units metal`, `real`, `electron` or `si`.
//
// efield is a macroscopic field F (V/angstrom; V/cm in `electron`, V/m in `si`). The energy is then
// E - F.M with the dipole M of dipole.h; forces are its derivatives, the response of the charges
// included (which `fix efield` does not know). Along periodic directions only charges with a
// polarisation can be in a field: charge_model fixed or transferred. The virial is the derivative
// at fixed voltages along the box, which stay while a fix changes it (electric_field.h).
//
// `ghosts extended` makes every rank compute all that the energies of its atoms depend on, from a
// shell of ghosts as wide as all layers reach (the ghost cutoff is raised for it), instead of
// exchanging features of ghosts between the layers. `compute centroid/stress/atom`, and with it
// `compute heat/flux`, needs it for models of two or more layers (pair_heat.cpp).
//
// `contacts` says what happens when atoms come closer than in the training data (contacts.h).
//
// `compute ID all pair equicalc` gives
//   c_ID[1] to c_ID[3]  the dipole, charge times length (positions unwrapped by image flags; it has
//                       a meaning where a field is allowed)
//   c_ID[4]             steps that the last equilibration of the charges took; 0 for other charges
//   c_ID[5] to c_ID[7]  the largest, smallest and mean deviation of forces in a committee
//                       (committee.h) at the last step that was a multiple of N in `deviation N`
// compute_equicalc_atom.h tells what there is about single atoms.
#pragma once

#include "atom_outputs.h"
#include "model/device_steps.h"
#include "equicalc.h"
#include "heat_of_charges.h"
#include "style_options.h"
#include "units.h"

#include "pair.h"

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace equicalc_lammps {
class AtomGraph;
class ChargeConstraint;
class ChargeHistory;
class Committee;
class Contacts;
class DeviceGraph;
class Halo;
class Coulomb;
class DipoleOfAtoms;
class ChargeWatch;
class ElectricField;
struct LongRange;
}  // namespace equicalc_lammps

namespace LAMMPS_NS {

class PairEquicalc : public Pair {
  public:
    explicit PairEquicalc(LAMMPS *lmp);
    ~PairEquicalc() override;

    void settings(int narg, char **arg) override;
    void coeff(int narg, char **arg) override;
    void init_style() override;
    double init_one(int i, int j) override;
    void compute(int eflag, int vflag) override;
    void *extract(const char *name, int &dimension) override;
    // Parts of a pair force by distance, which there are none of.
    void compute_inner() override;

    int pack_forward_comm(int n, int *list, double *buffer, int, int *) override;
    void unpack_forward_comm(int n, int first, double *buffer) override;
    int pack_reverse_comm(int n, int first, double *buffer) override;
    void unpack_reverse_comm(int n, int *list, double *buffer) override;

    // For compute equicalc/atom, in pair_outputs.cpp. Both stop LAMMPS when there is no such
    // number.
    void check_atom_quantity(const std::string &name) const;
    // One number per atom of this rank that a model describes: first[stride * atom].
    void write_atom_quantity(const std::string &name, double *first, size_t stride) const;

    // For kspace_style equicalc.
    const equicalc_lammps::StyleOptions &options() const { return options_; }
    bool has_charges() const { return coulomb_ != nullptr; }
    bool has_equilibrated_charges() const;
    void find_minimum(const std::function<void()> &search);
    std::vector<std::array<double, 3>> coulomb_forces(std::span<const double> charges,
                                                      std::span<const int> atoms);

  protected:
    // Runs the KSPACE style once: charges in atom->q, forces are added to atom->f.
    virtual void run_kspace(int eflag, int vflag);

  private:
    // A model of the committee; often there is only one.
    struct Member {
        std::shared_ptr<equicalc::Model> model;
        std::unique_ptr<equicalc::Evaluator> evaluator;
        std::vector<int> species_of_type;  // index 0 unused; -1: NULL
        torch::Tensor species;  // of this model for each of the first; undefined if the same
        std::unique_ptr<equicalc_lammps::ChargeHistory> history;
        std::unique_ptr<equicalc_lammps::ChargeConstraint> constraint;
    };

    void read_coefficients();
    void load_coefficients();
    Member load_model(const std::string &path_or_name) const;
    void match_to_first(Member &member) const;
    void map_types(const std::vector<std::string> &elements);
    void map_types_of(Member &member, const std::vector<std::string> &elements) const;
    void allocate();
    void log_model(const Member &member, const std::string &path) const;
    void log_style() const;
    void give_nominal_charges();

    // In pair_failures.cpp: what is said when memory is short or numbers are none.
    std::string load() const;
    void require_finite(const equicalc::ForwardResult &result, const equicalc::Graph &graph) const;
    void require_none_of(const std::vector<int64_t> &rows, const equicalc::Graph &graph,
                         const std::string &what) const;

    // What follows is in pair_checks.cpp: each stops LAMMPS if it has to.
    void require_settings_of_charged_model() const;
    void require_possible_field() const;
    void require_dispersion() const;
    void refuse_other_charges() const;
    void refuse_tuning() const;
    void refuse_charges_of_others() const;
    void warn_of_fix_efield() const;
    void refuse_pair_energies() const;
    void refuse_exclusions() const;
    void refuse_strains_of_atoms() const;
    void refuse_second_model_with_charges() const;
    void warn_of_deviations() const;
    void warn_of_masses() const;  // in pair_masses.cpp
    void require_centroid_virials() const;
    void require_heat_of_charges(const std::string &found, const std::string &id) const;

    void evaluate(int eflag, int vflag);
    equicalc::Graph present_graph();
    void evaluate_member(Member &member, const equicalc::Graph &graph, int eflag, int vflag);
    void evaluate_committee(const equicalc::Graph &graph, int eflag, int vflag);
    void divide_by_members();
    torch::Tensor weights_of_own_rows(const torch::Tensor &values) const;
    void renumber_atoms_if_rebuilt();
    bool atoms_need_rows();
    // Whether one call takes this step from positions to forces on the device.
    bool is_step_of_device() const;
    equicalc::Graph evaluate_on_device();
    equicalc::EdgeForces sums_over_edges(const equicalc::Graph &graph,
                                         const torch::Tensor &edge_gradients);
    void add_short_range(const torch::Tensor &energies, const equicalc::Graph &graph,
                         const equicalc::EdgeForces &result);

    // In pair_heat.cpp: the virial of each atom that makes `compute heat/flux` the energy current.
    bool charges_respond() const;
    std::array<torch::Tensor, 3> centroid_moments(Member &member, const torch::Tensor &positions);
    void add_heat_of_atoms();
    void add_centroid_virials(Member &member, const equicalc::Graph &graph,
                              const torch::Tensor &edge_gradients);

    // What follows is in pair_charges.cpp; tensors that are returned are dE/d(variables).
    void make_coulomb();
    std::span<const double> charges_of_all_rows(std::span<const double> charges);
    torch::Tensor add_charges(Member &member, const torch::Tensor &variables, int eflag, int vflag);
    torch::Tensor constrained_charges(Member &member, const torch::Tensor &variables,
                                      std::span<const int> atoms, int eflag, int vflag);
    torch::Tensor equilibrated_charges(Member &member, const torch::Tensor &variables,
                                       std::span<const int> atoms, int eflag, int vflag);
    void add_output_of_charges(const Member &member, const torch::Tensor &variables,
                               std::span<const int> atoms, std::span<const double> charges);
    void add_long_range(const equicalc_lammps::LongRange &long_range);
    void add_charge_energy(int row, double energy);
    void add_dipole(const equicalc_lammps::DipoleOfAtoms &dipole);

    // How many cutoffs an atom sees: layers, and one more where charges flow along edges.
    int depth() const;
    bool model_is_loaded() const { return !members_.empty(); }
    // Of the first model; all have the same cutoff, charge model and widths.
    const equicalc::ModelInfo &info() const { return members_.front().model->info(); }

    equicalc_lammps::StyleOptions options_;
    equicalc_lammps::Units units_;
    std::array<double, 3> field_in_volt() const;
    bigint listed_at_ = -1;      // step of the neighbour list the graph's rows belong to
    bool has_rows_ = false;      // since the last init
    bool knows_masses_ = false;  // whether they were compared with the elements of pair_coeff

    std::vector<std::string> coefficients_;  // words of pair_coeff after * *
    std::vector<Member> members_;
    std::unique_ptr<equicalc_lammps::Committee> committee_;
    equicalc_lammps::AtomOutputs outputs_;
    equicalc::EdgeScatter scatter_;
    std::vector<double> all_charges_;  // of the rows of all ranks that are seen here
    std::unique_ptr<equicalc_lammps::AtomGraph> graph_;
    std::unique_ptr<equicalc_lammps::DeviceGraph> device_graph_;  // of a staged device
    std::unique_ptr<equicalc::DeviceSteps> steps_;  // of one model on a device with kernels
    equicalc::ForwardResult result_of_device_;
    // Of the model that is evaluated, on steps that ask for heat fluxes.
    std::optional<equicalc_lammps::HeatOfCharges> heat_;
    std::unique_ptr<equicalc_lammps::Halo> halo_;
    std::unique_ptr<equicalc_lammps::Contacts> contacts_;
    std::unique_ptr<equicalc_lammps::Coulomb> coulomb_;      // of models with charges
    std::unique_ptr<equicalc_lammps::ElectricField> field_;  // likewise
    std::unique_ptr<equicalc_lammps::ChargeWatch> watch_;    // likewise
};

}  // namespace LAMMPS_NS
