#include "compute_equicalc_atom.h"

#include "pair_equicalc.h"

#include "atom.h"
#include "error.h"
#include "force.h"
#include "update.h"

#include <algorithm>

using namespace LAMMPS_NS;

ComputeEquicalcAtom::ComputeEquicalcAtom(LAMMPS *lmp, int narg, char **arg)
    : Compute(lmp, narg, arg), quantities_(arg + std::min(3, narg), arg + narg) {
    if (quantities_.empty()) {
        error->all(FLERR,
                   "compute equicalc/atom names no quantity. Type, for example, 'compute ID all "
                   "equicalc/atom charge potential energy'");
    }
    peratom_flag = 1;
    const auto n_columns = static_cast<int>(quantities_.size());
    size_peratom_cols = n_columns == 1 ? 0 : n_columns;
    dynamic_group_allow = 1;
}

void ComputeEquicalcAtom::init() {
    pair_ = dynamic_cast<PairEquicalc *>(force->pair_match("^equicalc", 0));
    if (pair_ == nullptr) {
        error->all(FLERR, std::string("compute ") + id +
                              " (equicalc/atom) needs 'pair_style equicalc', alone or once under "
                              "hybrid styles; found 'pair_style " +
                              (force->pair_style != nullptr ? force->pair_style : "none") + "'");
    }
    for (const std::string &quantity : quantities_) {
        pair_->check_atom_quantity(quantity);
    }
}

void ComputeEquicalcAtom::compute_peratom() {
    invoked_peratom = update->ntimestep;
    const size_t n_columns = quantities_.size();
    const auto n_rows = static_cast<size_t>(std::max(atom->nmax, 1));
    values_.assign(n_rows * n_columns, 0.0);
    rows_.resize(n_rows);
    for (size_t row = 0; row < n_rows; ++row) {
        rows_[row] = values_.data() + row * n_columns;
    }
    for (size_t column = 0; column < n_columns; ++column) {
        pair_->write_atom_quantity(quantities_[column], values_.data() + column, n_columns);
    }
    for (int i = 0; i < atom->nlocal; ++i) {
        if ((atom->mask[i] & groupbit) == 0) {
            std::fill_n(rows_[i], n_columns, 0.0);
        }
    }
    vector_atom = values_.data();
    array_atom = rows_.data();
}

double ComputeEquicalcAtom::memory_usage() {
    return static_cast<double>(values_.capacity() * sizeof(double) +
                               rows_.capacity() * sizeof(double *));
}
