#include "charge_history.h"

#include "atom.h"
#include "update.h"

#include <algorithm>

namespace equicalc_lammps {
namespace {

// Extrapolation by one step from 1, 2 or 3 equidistant ones, the last one first.
constexpr double kWeights[3][3] = {{1.0, 0.0, 0.0}, {2.0, -1.0, 0.0}, {3.0, -3.0, 1.0}};

}  // namespace

bool ChargeHistory::continues() const {
    constexpr int dynamics = 1;
    return atom->tag_enable != 0 && update->whichflag == dynamics &&
           update->ntimestep == last_step_ + 1;
}

std::vector<double> ChargeHistory::start(std::span<const int> atoms) const {
    std::vector<double> charges(atoms.size());
    for (size_t k = 0; k < atoms.size(); ++k) {
        charges[k] = atom->q[atoms[k]] / units_.charge;
    }
    if (!continues()) {
        return charges;
    }
    for (size_t k = 0; k < atoms.size(); ++k) {
        const auto found = past_.find(atom->tag[atoms[k]]);
        if (found != past_.end()) {
            const Past &past = found->second;
            const double *weights = kWeights[past.known - 1];
            charges[k] = 0.0;
            for (int step = 0; step < kSteps; ++step) {
                charges[k] += weights[step] * past.charges[step];
            }
        }
    }
    return charges;
}

void ChargeHistory::record(std::span<const int> atoms, std::span<const double> charges) {
    const bool extend = continues();
    std::unordered_map<LAMMPS_NS::tagint, Past> present;
    if (atom->tag_enable != 0) {
        present.reserve(atoms.size());
    }
    for (size_t k = 0; k < atoms.size() && atom->tag_enable != 0; ++k) {
        const LAMMPS_NS::tagint tag = atom->tag[atoms[k]];
        const auto found = past_.find(tag);
        Past past;
        if (extend && found != past_.end()) {
            past = found->second;
            std::copy_backward(past.charges.begin(), past.charges.end() - 1, past.charges.end());
        }
        past.charges[0] = charges[k];
        past.known = std::min(past.known + 1, kSteps);
        present.emplace(tag, past);
    }
    past_.swap(present);
    last_step_ = update->ntimestep;
}

}  // namespace equicalc_lammps
