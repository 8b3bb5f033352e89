#include "units.h"

#include "error.h"
#include "lammps.h"
#include "update.h"

#include <array>
#include <string>

namespace equicalc_lammps {
namespace {

// The SI of 2019 and CODATA 2018, as ASE and equicalc.electrostatics have them.
constexpr double kElementaryCharge = 1.602176634e-19;  // C
constexpr double kAvogadro = 6.02214076e23;
constexpr double kCalorie = 4.184;             // J, the thermochemical one of LAMMPS
constexpr double kHartree = 27.211386245988;   // eV
constexpr double kBohr = 0.529177210903;       // angstrom
constexpr double kAngstrom = 1e-10;            // m
constexpr double kDalton = 1.66053906660e-27;  // kg
constexpr double kVoltPerCentimetre = 1e-8;    // V/angstrom

struct Named {
    const char *name;
    Units units;
};

constexpr std::array<Named, 4> kKnown{{
    {"metal", {}},
    {"real", {kElementaryCharge * kAvogadro / (1000.0 * kCalorie), 1.0, 1.0, 1.0}},
    {"electron", {1.0 / kHartree, 1.0 / kBohr, 1.0, 1.0 / kVoltPerCentimetre}},
    {"si", {kElementaryCharge, kAngstrom, kElementaryCharge, 1.0 / kAngstrom, kDalton}},
}};

}  // namespace

Units Units::of_deck(LAMMPS_NS::LAMMPS *lmp) {
    const std::string style = lmp->update->unit_style;
    for (const Named &known : kKnown) {
        if (style == known.name) {
            return known.units;
        }
    }
    lmp->error->all(FLERR, "pair_style equicalc knows metal, real, electron and si, found 'units " +
                               style + "'. Type 'units metal' at the top of the input");
    return {};
}

}  // namespace equicalc_lammps
