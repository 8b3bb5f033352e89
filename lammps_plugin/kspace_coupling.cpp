#include "kspace_coupling.h"

#include "volume_terms.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "kspace.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace equicalc_lammps {
namespace {

using LAMMPS_NS::KSpace;

// 2 E_i / q_i is the potential for any charge but zero; the solvers are linear in it down to here.
constexpr double kSmallestCharge = 1e-10;

// Where g * cutoff = 6 the estimated real-space error, ~ exp(-36), is below rounding.
constexpr double kCutoffInSplittingLengths = 6.0;

// How many times the error asked for a mesh may have after its box has grown.
constexpr double kWorstMesh = 10.0;

// Opens protected members.
struct Access : KSpace {
    // Whether the user (or we) fixed the splitting parameter.
    static int &splitting_flag(KSpace *kspace) { return kspace->*(&Access::gewaldflag); }
    // Factor of everything the solver gives.
    static double &factor(KSpace *kspace) { return kspace->*(&Access::scale); }
};

// The charges (e) times `scale`; those that vanish are tiny instead.
void without_zeros(std::span<const double> charges, double scale, std::vector<double> &result) {
    result.resize(charges.size());
    std::transform(charges.begin(), charges.end(), result.begin(), [scale](double charge) {
        const bool vanishes = std::abs(charge) < kSmallestCharge;
        return scale * (vanishes ? std::copysign(kSmallestCharge, charge) : charge);
    });
}

std::array<double, 6> present_box(const LAMMPS_NS::Domain *domain) {
    std::array<double, 6> box{};
    std::copy_n(domain->h, 6, box.begin());
    return box;
}

// Whether a tilt factor changed by a whole edge, which within a step nothing else does.
bool is_flipped(const std::array<double, 6> &before, const std::array<double, 6> &now) {
    const auto jumped = [&](size_t tilt, size_t edge) {
        return std::abs(now[tilt] - before[tilt]) > 0.5 * now[edge];
    };
    return jumped(5, 0) || jumped(4, 0) || jumped(3, 1);  // xy, xz, yz
}

std::string text(double value) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.4g", value);
    return digits;
}

// Lengths of the cell vectors (xprd, 0, 0), (xy, yprd, 0), (xz, yz, zprd).
std::array<double, 3> edges_of(const std::array<double, 6> &h) {
    return {h[0], std::hypot(h[5], h[1]), std::hypot(h[4], h[3], h[2])};
}

}  // namespace

KspaceCoupling::KspaceCoupling(LAMMPS_NS::LAMMPS *lmp, const Units &units, double sigma,
                               Solver solver)
    : Pointers(lmp),
      units_(units),
      solver_(std::move(solver)),
      splitting_(1.0 / (2.0 * sigma)),
      cutoff_(units.length * kCutoffInSplittingLengths / splitting_) {}

KspaceCoupling::~KspaceCoupling() {
    // Another pair style may use the same KSPACE style after us, in the ordinary way.
    if (force != nullptr && force->kspace != nullptr && force->kspace == attached_) {
        force->kspace->compute_flag = 1;
        Access::factor(force->kspace) = 1.0;
        force->kspace->centroidstressflag = LAMMPS_NS::CENTROID_NOTAVAIL;
        force->kspace->g_ewald = 0.0;
        Access::splitting_flag(force->kspace) = 0;
    }
}

void KspaceCoupling::attach() {
    if (force->kspace == nullptr) {
        return;
    }
    refuse_unsuitable_style();
    set_splitting();
    if (force->kspace->compute_flag != 0) {
        force->kspace->compute_flag = 0;
        integrator_is_stale_ = true;
    }
    // Its shares reach the atoms through the pair style.
    force->kspace->centroidstressflag = LAMMPS_NS::CENTROID_SAME;
    attached_ = force->kspace;
}

void KspaceCoupling::refuse_unsuitable_style() const {
    const KSpace *kspace = force->kspace;
    const std::string style = force->kspace_style;
    const std::string advice =
        ". Type 'kspace_style equicalc 1e-5' instead of 'kspace_style " + style + "'";
    if (kspace->msmflag != 0 && kspace->ewaldflag == 0) {
        error->all(FLERR, "pair_style equicalc cannot use kspace_style " + style +
                              ": it splits the Coulomb sum in another way than Gaussian charges" +
                              advice);
    }
    if (style.find("/cg") != std::string::npos) {
        error->all(FLERR, "pair_style equicalc cannot use kspace_style " + style +
                              ": it leaves out atoms with small charges, whose potentials a "
                              "learned-charge model needs" +
                              advice);
    }
    const bool plain = (kspace->ewaldflag != 0 || kspace->pppmflag != 0) &&
                       kspace->dispersionflag == 0 && kspace->tip4pflag == 0 &&
                       kspace->dipoleflag == 0 && kspace->spinflag == 0;
    if (!plain) {
        error->all(FLERR,
                   "pair_style equicalc needs a KSPACE style for point charges that gives "
                   "per-atom energies; kspace_style " +
                       style + " is not one" + advice);
    }
    if (kspace->wireflag != 0 || kspace->slabflag > 1) {
        error->all(FLERR,
                   "pair_style equicalc supports boundaries p p p, and p p f with the plain "
                   "slab correction. Type 'kspace_modify slab 3.0'");
    }
}

void KspaceCoupling::set_splitting() {
    KSpace *kspace = force->kspace;
    int &is_fixed = Access::splitting_flag(kspace);
    const double splitting = units_.angstrom() * splitting_;
    if (is_fixed != 0 && std::abs(kspace->g_ewald - splitting) > 1e-12 * splitting) {
        error->all(FLERR, "'kspace_modify gewald " + std::to_string(kspace->g_ewald) +
                              "' contradicts the model, whose Gaussian charges need " +
                              std::to_string(splitting) +
                              ". Remove it or type 'kspace_modify gewald 0'");
    }
    kspace->g_ewald = splitting;
    is_fixed = 1;
}

void KspaceCoupling::init_run() {
    attach();
    if (integrator_is_stale_) {
        // Update::init runs before Force::init and keeps its own copy of compute_flag. Without a
        // second call the solver would run twice and its forces would count twice.
        update->init();
        integrator_is_stale_ = false;
    }
    // Monte Carlo fixes call the solver without asking compute_flag: nothing shall come of it.
    Access::factor(force->kspace) = 0.0;
    solver_is_stale_ = true;
    box_of_mesh_ = present_box(domain);
    atom_energies_checked_ = false;
}

void KspaceCoupling::set_up_solver() {
    // Integrators set up the solver only after the first pair computation of a run, and `rerun`
    // changes the box before it. Later changes of the box come with a set-up of their own.
    const auto box = present_box(domain);
    require_fine_mesh(box);
    // Fixes flip a tilted box after their own set-up, at the next new neighbour list.
    const bool flipped = is_flipped(box_of_setup_, box);
    if (solver_is_stale_ || flipped || (update->setupflag != 0 && box != box_of_setup_)) {
        force->kspace->setup();
        solver_is_stale_ = false;
    }
    box_of_setup_ = box;
}

// A mesh has the number of points that its run began with, whatever the box does since. (`ewald`
// counts its waves anew at every change.)
void KspaceCoupling::require_fine_mesh(const std::array<double, 6> &box) const {
    const KSpace *kspace = force->kspace;
    if (kspace->pppmflag == 0) {
        return;
    }
    const auto now = edges_of(box), then = edges_of(box_of_mesh_);
    size_t axis = 0;
    for (size_t k = 1; k < 3; ++k) {
        axis = now[k] / then[k] > now[axis] / then[axis] ? k : axis;
    }
    const double worse = std::pow(now[axis] / then[axis], kspace->order);
    if (worse > kWorstMesh) {
        error->all(FLERR,
                   "pair_style equicalc: at step " + std::to_string(update->ntimestep) + " edge " +
                       "abc"[axis] + " of the box is " + text(now[axis]) + " long, it was " +
                       text(then[axis]) + " when kspace_style " + force->kspace_style +
                       " chose its mesh: forces have " + text(worse) +
                       " times the error asked for. Split the run, each 'run' chooses a "
                       "new mesh; or type 'kspace_modify mesh NX NY NZ' for the largest box");
    }
}

void KspaceCoupling::solve(std::span<const int> atoms, std::span<const double> charges, int eflag,
                           int vflag, bool with_source_moments, LongRange &result) {
    using namespace LAMMPS_NS;
    set_up_solver();
    auto *source = dynamic_cast<KnowsSourceMoments *>(force->kspace);
    if (source != nullptr) {
        source->ask_for_source_moments(with_source_moments);
    }

    without_zeros(charges, charge_scale(), scaled_);
    if ((vflag & VIRIAL_CENTROID) != 0) {
        vflag |= VIRIAL_ATOM;
    }
    run_solver(atoms, scaled_, eflag | ENERGY_ATOM, vflag);
    take_results(atoms, (vflag & (VIRIAL_ATOM | VIRIAL_CENTROID)) != 0, result);
    result.source_moments.clear();
    if (with_source_moments) {
        take_source_moments(atoms, result);
        source->ask_for_source_moments(false);
    }

    if (vflag != VIRIAL_NONE) {
        add_volume_terms(lmp, units_, splitting_, atoms, charges, result);
    }
    result.potentials.resize(atoms.size());
    const double twice = 2.0 * charge_scale();
    for (size_t k = 0; k < atoms.size(); ++k) {
        result.potentials[k] = twice * result.atom_energies[k] / scaled_[k];
        atom->q[atoms[k]] = units_.charge * charges[k];
    }
}

void KspaceCoupling::take_source_moments(std::span<const int> atoms, LongRange &result) const {
    const auto &found = dynamic_cast<const KnowsSourceMoments &>(*force->kspace).source_moments();
    // They are of the scaled charges in e, whatever the units of the deck.
    const double scale = charge_scale() / units_.charge;
    for (const int i : atoms) {
        const double *moment = &found[3 * i];
        std::array<double, 3> &own = result.source_moments.emplace_back();
        std::transform(moment, moment + 3, own.begin(),
                       [scale](double value) { return value / scale; });
    }
}

std::vector<double> KspaceCoupling::potentials(std::span<const int> atoms,
                                               std::span<const double> charges) {
    set_up_solver();
    double largest = 0.0;  // e
    for (const double charge : charges) {
        largest = std::max(largest, std::abs(charge));
    }
    MPI_Allreduce(MPI_IN_PLACE, &largest, 1, MPI_DOUBLE, MPI_MAX, world);
    std::vector<double> result(atoms.size(), 0.0);
    if (largest == 0.0) {
        return result;
    }
    // All charges times one factor, so that none of a short vector is taken for a vanishing one.
    std::vector<double> relative(charges.begin(), charges.end());
    for (double &charge : relative) {
        charge /= largest;
    }
    without_zeros(relative, charge_scale(), scaled_);
    double *first = atom->nmax > 0 ? atom->f[0] : nullptr;
    const std::vector<double> forces(first, first + 3 * (atom->nlocal + atom->nghost));
    run_solver(atoms, scaled_, LAMMPS_NS::ENERGY_ATOM, LAMMPS_NS::VIRIAL_NONE);
    std::copy(forces.begin(), forces.end(), first);
    LongRange solved;
    take_results(atoms, false, solved);
    const double twice = 2.0 * charge_scale();
    for (size_t k = 0; k < atoms.size(); ++k) {
        result[k] = largest * twice * solved.atom_energies[k] / scaled_[k];
    }
    return result;
}

double KspaceCoupling::accuracy() const {
    return force->kspace->accuracy / force->kspace->two_charge_force;
}

// What one e is to the solver. LAMMPS' own constants have five to eight digits: charges scaled in
// this way give it the constant of the model file, for energies, forces and virial alike.
double KspaceCoupling::charge_scale() const {
    return std::sqrt(kCoulomb * units_.energy * units_.length / force->qqrd2e);
}

void KspaceCoupling::run_solver(std::span<const int> atoms, std::span<const double> charges,
                                int eflag, int vflag) {
    std::fill_n(atom->q, atom->nlocal, 0.0);
    for (size_t k = 0; k < atoms.size(); ++k) {
        atom->q[atoms[k]] = charges[k];
    }
    force->kspace->qsum_qsq(0);
    if (!atom_energies_checked_) {
        eflag |= LAMMPS_NS::ENERGY_GLOBAL;
    }
    if (Access::factor(force->kspace) != 0.0) {
        error->all(FLERR,
                   "another command, such as 'fix adapt ... kspace', set the factor of "
                   "kspace_style " +
                       std::string(force->kspace_style) + " to " +
                       text(Access::factor(force->kspace)) +
                       ", but the Coulomb energy is a part of the model, which pair_style "
                       "equicalc does not scale. Type 'unfix ID' of that fix; "
                       "'pair_style hybrid/scaled v_factor equicalc' scales a whole model");
    }
    Access::factor(force->kspace) = 1.0;
    solver_(eflag, vflag);
    Access::factor(force->kspace) = 0.0;
}

void KspaceCoupling::take_results(std::span<const int> atoms, bool with_atom_virials,
                                  LongRange &result) {
    KSpace *kspace = force->kspace;
    const double electronvolt = 1.0 / units_.energy;
    result.energy = electronvolt * std::exchange(kspace->energy, 0.0);
    std::transform(kspace->virial, kspace->virial + 6, result.virial.begin(),
                   [electronvolt](double value) { return electronvolt * value; });
    std::fill_n(kspace->virial, 6, 0.0);
    result.atom_energies.clear();
    result.atom_virials.clear();
    if (kspace->eatom != nullptr) {
        for (const int i : atoms) {
            result.atom_energies.push_back(electronvolt * kspace->eatom[i]);
        }
    }
    if (!atom_energies_checked_) {
        check_atom_energies(atoms.size(), result);
    }
    result.atom_energies.resize(atoms.size());
    if (with_atom_virials) {
        result.atom_virials.resize(atoms.size());
        for (size_t k = 0; k < atoms.size(); ++k) {
            const double *virial = kspace->vatom[atoms[k]];
            std::transform(virial, virial + 6, result.atom_virials[k].begin(),
                           [electronvolt](double value) { return electronvolt * value; });
        }
    }
}

void KspaceCoupling::check_atom_energies(size_t n_atoms, const LongRange &result) {
    double sums[3] = {0.0, 0.0, static_cast<double>(n_atoms)}, totals[3];
    for (const double energy : result.atom_energies) {
        sums[0] += energy;
        sums[1] += std::abs(energy);
    }
    MPI_Allreduce(sums, totals, 3, MPI_DOUBLE, MPI_SUM, world);
    if (totals[2] == 0.0) {
        return;  // nothing to see in a box without atoms of the model
    }
    // Both come from the same mesh or the same sum: they differ by rounding only, which in a LAMMPS
    // of single precision (FFT, KOKKOS) is some 1e-7.
    const double tolerance = 1e-5 * std::max(totals[1], std::abs(result.energy)) + 1e-12;
    if (totals[1] == 0.0 || std::abs(totals[0] - result.energy) > tolerance) {
        error->all(FLERR, std::string("kspace_style ") + force->kspace_style +
                              " gives no per-atom energies, from which pair_style equicalc takes "
                              "the potentials at the atoms. Type 'kspace_style equicalc 1e-5'");
    }
    atom_energies_checked_ = true;
}

}  // namespace equicalc_lammps
