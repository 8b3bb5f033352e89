#include "committee.h"

#include "atom.h"
#include "comm.h"
#include "pair.h"

#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace equicalc_lammps {

std::span<double> Committee::forces() const {
    const size_t n = 3 * static_cast<size_t>(atom->nlocal + atom->nghost);
    return {n > 0 ? atom->f[0] : nullptr, n};
}

void Committee::begin_step(bool with_deviations) {
    with_deviations_ = with_deviations;
    n_models_ = 0;
    const auto f = forces();
    others_.assign(f.begin(), f.end());
    sum_.assign(f.size(), 0.0);
    of_models_.clear();
}

void Committee::begin_model() { std::ranges::fill(forces(), 0.0); }

void Committee::end_model() {
    ++n_models_;
    if (with_deviations_) {
        gather_forces();
    }
    const auto f = forces();
    for (size_t k = 0; k < f.size(); ++k) {
        sum_[k] += f[k];
    }
}

void Committee::gather_forces() {
    is_gathering_ = true;
    comm->reverse_comm(pair_, 3);
    is_gathering_ = false;
    const auto f = forces();
    const auto n_local = 3 * static_cast<std::ptrdiff_t>(atom->nlocal);
    of_models_.insert(of_models_.end(), f.begin(), f.begin() + n_local);
    std::fill(f.begin() + n_local, f.end(), 0.0);
}

void Committee::end_step() {
    const auto f = forces();
    for (size_t k = 0; k < f.size(); ++k) {
        f[k] = others_[k] + sum_[k] / n_models_;
    }
}

DeviationRange Committee::deviations(std::span<const int> atoms,
                                     std::vector<double> &of_atoms) const {
    const size_t block = 3 * static_cast<size_t>(atom->nlocal);
    of_atoms.assign(atoms.size(), 0.0);
    double totals[2] = {0.0, static_cast<double>(atoms.size())};
    double extremes[2] = {0.0, -std::numeric_limits<double>::infinity()};  // largest, -smallest
    for (size_t row = 0; row < atoms.size(); ++row) {
        double sum = 0.0;
        for (int model = 0; model < n_models_; ++model) {
            for (size_t k = 0; k < 3; ++k) {
                const size_t index = 3 * static_cast<size_t>(atoms[row]) + k;
                const double difference =
                    of_models_[model * block + index] - sum_[index] / n_models_;
                sum += difference * difference;
            }
        }
        of_atoms[row] = std::sqrt(sum / n_models_);
        totals[0] += of_atoms[row];
        extremes[0] = std::max(extremes[0], of_atoms[row]);
        extremes[1] = std::max(extremes[1], -of_atoms[row]);
    }
    MPI_Allreduce(MPI_IN_PLACE, totals, 2, MPI_DOUBLE, MPI_SUM, world);
    MPI_Allreduce(MPI_IN_PLACE, extremes, 2, MPI_DOUBLE, MPI_MAX, world);
    if (totals[1] == 0.0) {
        return {};
    }
    return {extremes[0], -extremes[1], totals[0] / totals[1]};
}

int Committee::pack_reverse(int n, int first, double *buffer) const {
    std::copy_n(atom->f[first], 3 * static_cast<std::ptrdiff_t>(n), buffer);
    return 3 * n;
}

void Committee::unpack_reverse(int n, const int *list, const double *buffer) {
    for (int k = 0; k < n; ++k) {
        for (int axis = 0; axis < 3; ++axis) {
            atom->f[list[k]][axis] += buffer[3 * k + axis];
        }
    }
}

}  // namespace equicalc_lammps
