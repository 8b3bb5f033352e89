// Atoms on a mesh: the values of their splines at the mesh points around them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "coulomb/waves.h"

namespace equicalc {

constexpr int kMaxSplineOrder = 8;
// Splines are stored at this many points, those beyond their order being zero: one or two vectors.
constexpr int kSplineWidth = kMaxSplineOrder;

// What one of several ranks has of a mesh: planes, from the first up to the last, across the first
// direction, and rows of the spectrum along its second one.
struct MeshShare {
    std::array<int, 2> planes{}, rows{};
};

// Splines of those atoms that reach into the planes of a share, sorted by the group of the atom and
// the first plane of its spline.
template <class Real>
class MeshSplines {
  public:
    // Throws std::invalid_argument when the order is not offered or a direction has fewer points.
    MeshSplines(const int *points, int order, std::array<int, 2> planes, std::size_t groups,
                int threads);

    // `members`: the group of each atom, null for one group.
    void set(std::size_t n, const double *positions, const std::size_t *members,
             const Reciprocal &reciprocal);

    std::size_t size() const { return atoms_.size(); }
    std::size_t memory_bytes() const {
        return sizeof(Real) * (weights_.capacity() + slopes_.capacity()) +
               sizeof(int) * bases_.capacity() +
               sizeof(std::size_t) * (atoms_.capacity() + bins_.capacity());
    }
    // The splines of a group that begin at this plane: from the first up to the last.
    std::array<std::size_t, 2> of_plane(std::size_t group, int plane) const {
        const std::size_t bin = group * points_[0] + plane;
        return {starts_[bin], starts_[bin + 1]};
    }
    const std::size_t *atoms() const { return atoms_.data(); }  // whose spline it is
    const int *bases() const { return bases_.data(); }          // [size][3] first mesh point
    // [size][3][kSplineWidth] the spline and its derivative at its mesh points, then zeros.
    const Real *weights() const { return weights_.data(); }
    const Real *slopes() const { return slopes_.data(); }

  private:
    bool reaches_share(int base) const;
    void sort(std::size_t n, const double *positions, const std::size_t *members,
              const Reciprocal &reciprocal);
    template <int Order>
    void fill(const double *positions, const Reciprocal &reciprocal);

    int points_[3], order_, threads_;
    std::array<int, 2> planes_;
    std::vector<std::int64_t> bins_;          // [n] of all atoms, -1 for those elsewhere
    std::vector<std::size_t> starts_, next_;  // [groups n0 + 1]
    std::vector<std::size_t> atoms_;
    std::vector<int> bases_;
    std::vector<Real> weights_, slopes_;
};

}  // namespace equicalc
