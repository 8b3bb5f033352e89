// pair_style equicalc [precision float64|float32] [charge Q] [efield Ex Ey Ez]
// pair_coeff * * MODEL El1 El2 ...
//
// MODEL is a file or the name of a shipped model; each atom type gets a chemical element, or NULL
// for atoms the model does not describe. Defaults: precision float64, total charge 0, no field. A
// model with charges also needs a kspace_style, unless no direction is periodic. Units: eV,
// angstrom, e (`units metal`).
//
// efield is a macroscopic field F in V/angstrom. The energy is then E - F.M with the dipole M of
// dipole.h; forces are its derivatives, the response of the charges included (which `fix efield`
// does not know). Along periodic directions only charges with a polarisation can be in a field:
// charge_model fixed or transferred. The field adds nothing to the virial: the pressure of a system
// in a field is not its derivative by the volume, and fixes that change the box are refused.
//
// `compute ID all pair equicalc` gives, as c_ID[1] to c_ID[4], the dipole Mx, My, Mz in e angstrom
// (positions unwrapped by image flags; it has a meaning where a field is allowed) and the steps
// that the last equilibration of the charges took (0 for other charge models).
#pragma once

#include "equicalc.h"

#include "pair.h"

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace equicalc_lammps {
class AtomGraph;
class ChargeHistory;
class Halo;
class Coulomb;
struct Dipole;
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

    int pack_forward_comm(int n, int *list, double *buffer, int, int *) override;
    void unpack_forward_comm(int n, int first, double *buffer) override;
    int pack_reverse_comm(int n, int first, double *buffer) override;
    void unpack_reverse_comm(int n, int *list, double *buffer) override;

  private:
    void load_model(const std::string &path_or_name);
    void map_types(int n_elements, char **elements);
    void log_model(const std::string &path) const;
    void require_settings_of_charged_model() const;
    void require_possible_field() const;
    void refuse_fixes_in_field() const;
    void require_dispersion() const;
    void give_nominal_charges();

    void evaluate(int eflag, int vflag);
    void renumber_atoms_if_rebuilt();
    void add_short_range(const torch::Tensor &energies, const equicalc::Graph &graph,
                         const torch::Tensor &edge_gradients);

    // What follows is in pair_charges.cpp. Charges of this rank's rows (e) and dE/d(variables).
    struct Charges {
        std::vector<double> charges;
        torch::Tensor gradient;
    };
    void make_coulomb();
    std::vector<double> charges_of_all_rows(std::span<const double> charges);
    torch::Tensor add_charges(const torch::Tensor &variables, int eflag, int vflag);
    Charges constrained_charges(const torch::Tensor &variables, std::span<const int> atoms,
                                int eflag, int vflag);
    Charges equilibrated_charges(const torch::Tensor &variables, std::span<const int> atoms,
                                 int eflag, int vflag);
    void add_long_range(const equicalc_lammps::LongRange &long_range);
    void add_charge_energy(int i, double energy);
    void add_dipole(const equicalc_lammps::Dipole &dipole);

    const equicalc::ModelInfo &info() const { return model_->info(); }

    torch::ScalarType dtype_ = torch::kFloat64;
    double total_charge_ = 0.0;
    std::array<double, 3> field_{};     // V/angstrom
    std::vector<int> species_of_type_;  // index 0 unused; -1: NULL
    bigint numbered_at_ = -1;           // step of the neighbour list the graph's rows belong to

    std::shared_ptr<equicalc::Model> model_;
    std::unique_ptr<equicalc::Evaluator> evaluator_;
    std::unique_ptr<equicalc_lammps::AtomGraph> graph_;
    std::unique_ptr<equicalc_lammps::Halo> halo_;
    // Models with charges only.
    std::unique_ptr<equicalc_lammps::Coulomb> coulomb_;
    std::unique_ptr<equicalc_lammps::ChargeHistory> history_;
};

}  // namespace LAMMPS_NS
