// The ranks of a run, for a mesh that is shared among them.
#pragma once

#include "gathered_charges.h"

#include "coulomb/mesh_solver.h"

#include <functional>
#include <vector>

namespace equicalc_lammps {

class RanksOfMesh : public equicalc::MeshRanks {
  public:
    // `charges`: those of the sums, which know how many every rank has.
    RanksOfMesh(LAMMPS_NS::LAMMPS *lmp, const GatheredCharges &charges)
        : lmp_(lmp), charges_(charges) {}

    int rank() const override;
    int size() const override;
    void run(const std::function<void()> &action) override;
    void exchange(const void *send, const std::vector<int> &n_sent, void *receive,
                  const std::vector<int> &n_received, bool single) override;
    void sum(std::vector<double> &values) override;
    void sum_for_owners(std::vector<double> &values, int width) override;

  private:
    LAMMPS_NS::LAMMPS *lmp_;
    const GatheredCharges &charges_;
    std::vector<int> sent_at_, received_at_, counts_;
    std::vector<double> own_;
};

}  // namespace equicalc_lammps
