#include "electric_field.h"

#include "comm.h"
#include "domain.h"
#include "fix.h"
#include "lammps.h"
#include "modify.h"
#include "utils.h"

#include <cmath>
#include <string>

using namespace LAMMPS_NS;

namespace equicalc_lammps {

void ElectricField::begin_run(const Vector &field) {
    field_ = field;
    const Fix *fix = acts() ? changing_fix() : nullptr;
    follows_ = fix != nullptr;
    if (!follows_) {
        return;
    }
    box_ = box();
    for (int k = 0; k < 3; ++k) {
        voltages_[k] = 0.0;
        for (int axis = 0; axis < 3; ++axis) {
            voltages_[k] += box_[k][axis] * field_[axis];
        }
    }
    if (lmp_->comm->me == 0) {
        utils::logmesg(lmp_,
                       std::string("equicalc: fix ") + fix->id + " (" + fix->style +
                           ") changes the box: 'efield' is the field in the box of this moment, "
                           "and its voltages along the box stay\n");
    }
}

void ElectricField::follow_box() {
    if (!follows_) {
        return;
    }
    const Box now = box();
    const auto turns = [](double change, double length) { return std::round(change / length); };
    const double b_by_a = turns(now[1][0] - box_[1][0], box_[0][0]);
    const double c_by_b = turns(now[2][1] - box_[2][1], box_[1][1]);
    const double c_by_a = turns(now[2][0] - box_[2][0] - c_by_b * box_[1][0], box_[0][0]);
    voltages_[2] += c_by_b * voltages_[1] + c_by_a * voltages_[0];
    voltages_[1] += b_by_a * voltages_[0];
    box_ = now;
    field_[0] = voltages_[0] / box_[0][0];
    field_[1] = (voltages_[1] - box_[1][0] * field_[0]) / box_[1][1];
    field_[2] = (voltages_[2] - box_[2][0] * field_[0] - box_[2][1] * field_[1]) / box_[2][2];
}

// Rows: the periodic box vectors (xprd, 0, 0), (xy, yprd, 0), (xz, yz, zprd), and unit vectors
// where the box is open: no voltage is held there.
ElectricField::Box ElectricField::box() const {
    const Domain &domain = *lmp_->domain;
    const double *h = domain.h;
    Box rows = {{{h[0], 0.0, 0.0}, {h[5], h[1], 0.0}, {h[4], h[3], h[2]}}};
    const int periodic[3] = {domain.xperiodic, domain.yperiodic, domain.zperiodic};
    for (int k = 0; k < 3; ++k) {
        if (periodic[k] == 0) {
            rows[k] = Vector{};
            rows[k][k] = 1.0;
        }
    }
    return rows;
}

const Fix *ElectricField::changing_fix() const {
    for (const Fix *fix : lmp_->modify->get_fix_list()) {
        if ((fix->box_change & ~Fix::BOX_CHANGE_DOMAIN) != 0) {
            return fix;
        }
    }
    return nullptr;
}

std::array<double, 6> field_virial(const Vector &field, const Vector &bond_dipole) {
    const auto component = [&](int a, int b) {
        return -0.5 * (field[a] * bond_dipole[b] + field[b] * bond_dipole[a]);
    };
    return {component(0, 0), component(1, 1), component(2, 2),
            component(0, 1), component(0, 2), component(1, 2)};
}

}  // namespace equicalc_lammps
