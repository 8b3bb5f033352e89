// What the pair style writes to the log about models and options.
#include "pair_equicalc.h"

#include "words.h"

#include "comm.h"
#include "utils.h"

#include <algorithm>
#include <string>
#include <vector>

using namespace LAMMPS_NS;
using namespace equicalc_lammps;

namespace {

// One width, or one per element.
std::string widths(const std::vector<double> &sigmas) {
    std::vector<std::string> words;
    for (const double sigma : sigmas) {
        words.push_back(shortest(sigma));
    }
    const bool equal = std::equal(words.begin() + 1, words.end(), words.begin());
    return equal ? words.front() : joined(words);
}

}  // namespace

void PairEquicalc::log_model(const Member &member, const std::string &path) const {
    if (comm->me != 0) {
        return;
    }
    const equicalc::ModelInfo &model = member.model->info();
    std::string text = "equicalc model " + model.name + " (" + path + ")\n  elements " +
                       joined(model.elements) + ", cutoff " + shortest(model.cutoff) +
                       " angstrom, " + std::to_string(model.n_layers) + " layers, ";
    if (model.has_charges()) {
        text += std::string(equicalc::name_of(model.charge_model)) + " charges of Gaussian width " +
                widths(model.sigmas) + " angstrom, total charge " +
                shortest(options_.total_charge / units_.charge) + " e\n";
    } else {
        text += "no charges\n";
    }
    utils::logmesg(lmp, text);
}

void PairEquicalc::log_style() const {
    if (comm->me != 0) {
        return;
    }
    std::string text;
    if (members_.size() > 1) {
        text += "  mean of " + std::to_string(members_.size()) + " models";
        text += options_.deviation_every > 0
                    ? ", deviations every " + std::to_string(options_.deviation_every) + " steps\n"
                    : "\n";
    }
    if (options_.extended_ghosts) {
        text += "  ghosts as far as " + std::to_string(depth()) +
                " cutoffs instead of an exchange between layers\n";
    }
    const auto &field = options_.field;
    if (options_.has_field()) {
        text += "  electric field " + shortest(field[0]) + " " + shortest(field[1]) + " " +
                shortest(field[2]) + ", without its part of the virial\n";
    }
    if (options_.device.is_staged) {
        text += "  device " + options_.device.device.str() + (comm->nprocs > 1 ? " (rank 0)" : "") +
                ": network, graph and forces as operations of torch\n";
    }
    text += "  precision " + options_.precision;
    if (options_.dtype() != torch::kFloat64) {
        text += " (the network; geometry and sums of energies in float64)";
    }
    text += ", " + std::to_string(comm->nthreads) + " thread(s) per MPI rank\n";
    utils::logmesg(lmp, text);
}
