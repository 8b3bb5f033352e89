#include "width_pairs.h"

#include "atom.h"
#include "neigh_list.h"

#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace equicalc_lammps {
namespace {

// Where the taper begins, relative to where it ends.
constexpr double kTaperStart = 0.9;

// (1/r) d/dr of -erfc(c r)/r, without the factor k.
double field_of_complement(double c, double r) {
    const double gaussian = 2.0 * c * std::numbers::inv_sqrtpi * std::exp(-c * c * r * r);
    return (std::erfc(c * r) / r + gaussian) / (r * r);
}

// From 1 at the start to 0 at the end with two continuous derivatives; and its slope.
struct Taper {
    double value = 1.0, slope = 0.0;
};

Taper taper(double r, double range) {
    const double start = kTaperStart * range;
    if (r <= start) {
        return {};
    }
    const double u = (r - start) / (range - start);
    return {1.0 - u * u * u * (10.0 - 15.0 * u + 6.0 * u * u),
            -30.0 * u * u * (1.0 - u) * (1.0 - u) / (range - start)};
}

}  // namespace

WidthPairs::WidthPairs(LAMMPS_NS::LAMMPS *lmp, const Units &units,
                       std::vector<double> sigma_of_type)
    : Pointers(lmp), units_(units), sigma_of_type_(std::move(sigma_of_type)) {
    const size_t n = sigma_of_type_.size();
    widest_ = *std::max_element(sigma_of_type_.begin() + 1, sigma_of_type_.end());
    splitting_ = 1.0 / (2.0 * widest_);
    kernels_.assign(n * n, Kernel{});
    for (size_t i = 1; i < n; ++i) {
        empty_ = empty_ && (sigma_of_type_[i] == 0.0 || sigma_of_type_[i] == widest_);
        for (size_t j = 1; j < n; ++j) {
            const double a = sigma_of_type_[i], b = sigma_of_type_[j];
            if (a > 0.0 && b > 0.0) {
                kernels_[i * n + j].c = std::sqrt(0.5 / (a * a + b * b));
            }
        }
    }
}

void WidthPairs::set_accuracy(double relative) {
    const size_t n = sigma_of_type_.size();
    for (size_t i = 1; i < n; ++i) {
        for (size_t j = 1; j < n; ++j) {
            Kernel &kernel = kernels_[i * n + j];
            const bool same = sigma_of_type_[i] == widest_ && sigma_of_type_[j] == widest_;
            if (kernel.c == 0.0 || same) {
                continue;
            }
            double r = 3.0 * widest_;  // beyond the largest force of any h
            const auto force = [&] {
                return r * (field_of_complement(splitting_, r) - field_of_complement(kernel.c, r));
            };
            while (force() > relative) {
                r += 0.05 * widest_;
            }
            kernel.range = r / kTaperStart;
        }
    }
}

WidthPairs::Pair WidthPairs::at_distance(const Kernel &kernel, double r) const {
    const double h = (std::erfc(splitting_ * r) - std::erfc(kernel.c * r)) / r;
    const double field = field_of_complement(splitting_, r) - field_of_complement(kernel.c, r);
    const auto [value, slope] = taper(r, kernel.range);
    return {0, 0, {}, kCoulomb * h * value, kCoulomb * (field * value - h * slope / r)};
}

void WidthPairs::find(const LAMMPS_NS::NeighList &list, std::span<const int> atoms,
                      std::span<const int> row_of_atom) {
    pairs_.clear();
    const double *const *x = atom->x;
    for (size_t row = 0; row < atoms.size(); ++row) {
        const int i = atoms[row];
        for (int k = 0; k < list.numneigh[i]; ++k) {
            const int j = list.firstneigh[i][k] & NEIGHMASK;
            if (row_of_atom[j] < 0) {
                continue;
            }
            const Kernel &shape = kernel(atom->type[i], atom->type[j]);
            double d[3];
            for (int axis = 0; axis < 3; ++axis) {
                d[axis] = units_.angstrom() * (x[i][axis] - x[j][axis]);
            }
            const double r_squared = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
            if (r_squared < shape.range * shape.range) {
                Pair pair = at_distance(shape, std::sqrt(r_squared));
                pair.row = static_cast<int>(row);
                std::copy_n(d, 3, pair.d);
                pair.other_row = row_of_atom[j];
                pairs_.push_back(pair);
            }
        }
    }
}

void WidthPairs::add_potentials(std::span<const double> charges,
                                std::vector<double> &potentials) const {
    for (const Pair &pair : pairs_) {
        potentials[pair.row] += charges[pair.other_row] * pair.potential;
    }
}

void WidthPairs::add(std::span<const double> charges, std::span<const int> atoms,
                     LongRange &result) const {
    double sums[7] = {};  // energy and virial
    for (const Pair &pair : pairs_) {
        const int i = atoms[pair.row];
        const double potential = charges[pair.other_row] * pair.potential;
        // Every pair is met from both sides; half of it belongs to each.
        const double energy = 0.5 * charges[pair.row] * potential;
        result.potentials[pair.row] += potential;
        result.atom_energies[pair.row] += energy;
        sums[0] += energy;
        const double strength = charges[pair.row] * charges[pair.other_row] * pair.field;
        const double *d = pair.d;
        for (int axis = 0; axis < 3; ++axis) {
            atom->f[i][axis] += units_.force() * strength * d[axis];
        }
        for (int axis = 0; axis < 3 && !result.source_moments.empty(); ++axis) {
            result.source_moments[pair.row][axis] -= d[axis] * potential;
        }
        const double products[6] = {d[0] * d[0], d[1] * d[1], d[2] * d[2],
                                    d[0] * d[1], d[0] * d[2], d[1] * d[2]};
        for (int component = 0; component < 6; ++component) {
            const double share = 0.5 * strength * products[component];
            sums[1 + component] += share;
            if (!result.atom_virials.empty()) {
                result.atom_virials[pair.row][component] += share;
            }
        }
    }
    double totals[7];
    MPI_Allreduce(sums, totals, 7, MPI_DOUBLE, MPI_SUM, world);
    result.energy += totals[0];
    for (int component = 0; component < 6; ++component) {
        result.virial[component] += totals[1 + component];
    }
}

}  // namespace equicalc_lammps
