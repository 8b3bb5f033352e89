// pair_style equicalc [precision float64|float32] [charge Q]
// pair_coeff * * MODEL El1 El2 ...
//
// MODEL is a file or the name of a shipped model; each atom type gets a chemical element, or NULL
// for atoms the model does not describe. Defaults: precision float64, total charge 0. A model with
// charges also needs a kspace_style. Units: eV, angstrom, e (`units metal`).
#pragma once

#include "equicalc.h"

#include "pair.h"

#include <memory>
#include <string>
#include <vector>

namespace equicalc_lammps {
class AtomGraph;
class Halo;
class KspaceCoupling;
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
    void require_supported_charges() const;
    void give_nominal_charges();

    void evaluate(int eflag, int vflag);
    void renumber_atoms_if_rebuilt();
    void add_long_range(const equicalc_lammps::LongRange &long_range);
    void add_short_range(const torch::Tensor &energies, const equicalc::Graph &graph,
                         const torch::Tensor &edge_gradients);

    const equicalc::ModelInfo &info() const { return model_->info(); }

    torch::ScalarType dtype_ = torch::kFloat64;
    double total_charge_ = 0.0;
    std::vector<int> species_of_type_;  // index 0 unused; -1: NULL
    bigint numbered_at_ = -1;           // step of the neighbour list the graph's rows belong to

    std::shared_ptr<equicalc::Model> model_;
    std::unique_ptr<equicalc::Evaluator> evaluator_;
    std::unique_ptr<equicalc_lammps::AtomGraph> graph_;
    std::unique_ptr<equicalc_lammps::Halo> halo_;
    std::unique_ptr<equicalc_lammps::KspaceCoupling> kspace_;  // models with charges only
};

}  // namespace LAMMPS_NS
