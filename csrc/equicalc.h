// The C++ core of equicalc: load one exported model file, evaluate it on a neighbour graph, and
// differentiate it. Knows neither Python nor LAMMPS; both front ends link this library.
//
// Units: eV, angstrom, e. Everything that crosses this header is float64, except features inside
// a HaloExchange, which have the dtype of the model.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "kept_memory.h"

namespace equicalc {

namespace direct {
class Network;
}

// Version of the file format that this library reads (key and attribute `format_version`).
inline constexpr int64_t kFormatVersion = 2;

// Coulomb's constant in eV * angstrom / e^2; the same number as in equicalc.electrostatics.
inline constexpr double kCoulombConstant = 14.399645478425668;

// Every failure of this library. The text says what was found, what was expected and, where there
// is one, the line to type instead.
class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// The model file cannot be used: missing, not a model, damaged, or from a newer version.
class ModelFileError : public Error {
  public:
    using Error::Error;
};

// ---- several ranks -----------------------------------------------------------------------------

// How node features reach the halo atoms of a rank; implemented by front ends with several ranks.
// Rows 0..n_local-1 are owned by this rank, rows n_local..n_total-1 are copies of atoms of others.
// Both calls are collective: every rank makes them in the same order, also with no atoms. They work
// in place on [n_total, width] or [n_total, groups, width], numbers of a group side by side.
struct HaloExchange {
    virtual ~HaloExchange() = default;
    // Fills the halo rows with the values of their owners.
    virtual void forward(const torch::Tensor &rows, int64_t n_local) = 0;
    // Adds the halo rows, of a gradient, to those of their owners.
    virtual void reverse(const torch::Tensor &rows, int64_t n_local) = 0;
};

// Makes `exchange` the one that the torch operator equicalc::exchange uses on this thread, and on
// threads on which autograd runs what is started here, until the end of the scope. nullptr means a
// single rank: the operator is then the identity.
class ExchangeScope {
  public:
    explicit ExchangeScope(HaloExchange *exchange);
    ~ExchangeScope();
    ExchangeScope(const ExchangeScope &) = delete;
    ExchangeScope &operator=(const ExchangeScope &) = delete;
};

// ---- the model file ----------------------------------------------------------------------------

// Where charges come from, and with it the columns of ForwardResult::variables:
//   none                  no columns
//   fixed, predicted      q~, w                q = q~ + w (Q - sum q~) / sum w
//   transferred           q~, w, mu_xyz        the same; mu are bond dipoles, e angstrom
//   equilibrated          chi, eta             minimum of sum chi q + eta q^2 / 2 + E_Coulomb(q)
enum class ChargeModel { none, fixed, predicted, transferred, equilibrated };

// Columns of the variables of a charge model.
int64_t n_variables(ChargeModel model);
// The word for it in model files and configurations.
const char *name_of(ChargeModel model);

struct ModelInfo {
    int64_t format_version = 0;
    std::string name;
    std::vector<std::string> elements;  // species index -> chemical symbol
    double cutoff = 0.0;                // angstrom
    int64_t n_layers = 0;
    int64_t exchange_width = 0;  // widest message between layers, numbers per atom; 0: none
    ChargeModel charge_model = ChargeModel::none;
    std::vector<double> sigmas;           // Gaussian width per element, angstrom
    std::vector<double> nominal_charges;  // per element, e
    std::vector<int64_t> formal_charges;  // per element, e; zeros unless `transferred`
    // Electronic dielectric constant: charges that move with the atoms are sqrt(epsilon_inf)
    // times those of the Coulomb energy.
    double epsilon_inf = 1.0;
    // D3 correction to be added, in the words of pair_style dispersion/d3; empty: none.
    std::string dispersion;
    std::string json;  // the text of equicalc.json

    bool has_charges() const { return charge_model != ChargeModel::none; }
};

struct LoadOptions {
    torch::ScalarType dtype = torch::kFloat64;
    torch::Device device = torch::kCPU;
    // Evaluate through the scripted module, also where direct evaluation (direct/network.h) knows
    // the architecture: slower, and its oracle.
    bool scripted = false;
    // The same for model.pt2: through its compiled program.
    bool compiled = false;
};

class Model {
  public:
    // Throws ModelFileError when the file cannot be used.
    static std::shared_ptr<Model> load(const std::string &path, const LoadOptions &options = {});
    ~Model();
    Model(const Model &) = delete;
    Model &operator=(const Model &) = delete;

    const ModelInfo &info() const;
    const LoadOptions &options() const;

    // The scripted module, for evaluator.cpp only (keeps torch/script.h out of this header).
    struct Network;
    const Network &network() const;

  private:
    Model();
    ModelInfo info_;
    LoadOptions options_;
    std::unique_ptr<Network> network_;
};

// ---- evaluation --------------------------------------------------------------------------------

// On the CPU, or on the device of the model.
struct Graph {
    torch::Tensor species;  // int64 [n_total], index into ModelInfo::elements
    // int32 or int64 [2, E]; row 0 receivers (< n_local, ascending), row 1 senders
    torch::Tensor edge_index;
    torch::Tensor edge_vectors;  // float64 [E, 3], r_sender - r_receiver, angstrom
    int64_t n_local = 0;

    // All of it on the CPU.
    Graph on_host() const { return {species.cpu(), edge_index.cpu(), edge_vectors.cpu(), n_local}; }
};

struct ForwardResult {        // float64 on the CPU
    torch::Tensor energies;   // [n_local], eV
    torch::Tensor variables;  // [n_local, K], what the charges are made of; see ChargeModel
};

// Two-phase evaluation. Between the phases the front end finds the charges and solves the
// long-range problem, which may need sums over all ranks.
class Evaluator {
  public:
    explicit Evaluator(std::shared_ptr<Model> model);

    // Energies and charge variables; keeps the graph for one backward call.
    ForwardResult forward(const Graph &graph, HaloExchange *exchange = nullptr);

    // Gradient of sum_i e_i + sum_ik gradient_ik * variable_ik with respect to the edge vectors,
    // float64 [E, 3] on the device of the graph. gradient: float64 [n_local, K], dE/d(variable), or
    // undefined for a model without charges.
    torch::Tensor backward(const torch::Tensor &gradient, HaloExchange *exchange = nullptr);

    // dE/d(edge vectors) of sum gradient_ik * variable_ik alone, without the energies; keeps the
    // graph for further calls.
    torch::Tensor variable_gradient(const torch::Tensor &gradient,
                                    HaloExchange *exchange = nullptr);

    // The same of sum_i energy_weight_i e_i + sum_ik variable_weight_ik variable_ik, for graphs in
    // which only some rows count and for moments of the energies of atoms; keeps the graph for
    // further calls, until release(). Weights: float64 [n_local], and [n_local, K] or undefined.
    torch::Tensor weighted_gradient(const torch::Tensor &energy_weights,
                                    const torch::Tensor &variable_weights,
                                    HaloExchange *exchange = nullptr);
    void release();

    const std::shared_ptr<Model> &model() const { return model_; }
    // Whether the network is evaluated from its weights, without a scripted module or a program.
    bool is_direct() const;

  private:
    void check_backward(const torch::Tensor &gradient) const;
    torch::Tensor scripted_gradient(const torch::Tensor &energy_weights,
                                    const torch::Tensor &variable_weights, bool keep,
                                    HaloExchange *exchange);
    torch::Tensor on_graph_device(const torch::Tensor &gradient) const;

    std::shared_ptr<Model> model_;
    std::shared_ptr<direct::Network> direct_;  // or compiled; null: through the scripted module
    bool is_evaluated_ = false;                // a forward pass waits for its backward pass
    int64_t n_local_ = 0, n_edges_ = 0;
    torch::Device graph_device_ = torch::kCPU;
    torch::Tensor edge_vectors_, energies_, variables_;  // of the last forward, with graph
};

// ---- graphs (CPU, float64, deterministic for any number of threads)
// ------------------------------

struct Edges {
    torch::Tensor index;    // int64 (or int32) [2, E]
    torch::Tensor vectors;  // float64 [E, 3], angstrom
};

// The candidate edges that are shorter than the cutoff, in the order of the candidates (so a list
// sorted by receiver stays sorted). candidates: int64 [2, M]; shifts: int32 [M, 3], images in units
// of the rows of cell [3, 3]; positions: [n, 3]. Vectors are r_j + shift @ cell - r_i.
Edges select_edges(const torch::Tensor &positions, const torch::Tensor &cell,
                   const torch::Tensor &candidates, const torch::Tensor &shifts, double cutoff);

struct EdgeForces {
    torch::Tensor forces;        // [n_total, 3], eV/angstrom; halo rows belong to their owners
    torch::Tensor virial;        // [3, 3], W = -sum r (dE/dr)^T, eV
    torch::Tensor atom_virials;  // [n_local, 3, 3], summed over the edges of the receiver; eV
};

// Forces and virials from dE/d(edge vectors): F_i += g, F_j -= g for edge i <- j with gradient g.
// Memory is kept from call to call, for long runs.
class EdgeScatter {
  public:
    // Without atom virials these are undefined in the result.
    EdgeForces sum(const Edges &edges, const torch::Tensor &edge_gradients, int64_t n_local,
                   int64_t n_total, bool with_atom_virials);

  private:
    KeptTensor forces_, atom_virials_;
};

}  // namespace equicalc
