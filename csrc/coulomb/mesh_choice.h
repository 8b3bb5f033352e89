// Which spline and how many points of a mesh reach an accuracy, and what they cost.
//
// The accuracy of a mesh is that of equicalc.electrostatics.solve: charges near 1 e with Gaussians
// of 1 angstrom, as dense as in a solid, have an rms error of forces of 5 eV/angstrom times this.
#pragma once

#include <array>
#include <map>
#include <vector>

namespace equicalc {

// Rough costs in nanoseconds, only to choose between solvers and splines.
struct MeshCosts {
    double point;   // one mesh point through both transforms
    double spline;  // one of the order^2 rows of points of an atom in spreading and gathering
    double call;    // what a call costs at least
};

inline constexpr MeshCosts kMeshOnCpu{25.0, 15.0, 2e5};
// Estimated from what memory of an H100 delivers. A call is a score of kernels and two copies.
inline constexpr MeshCosts kMeshOnDevice{0.05, 0.1, 3e5};

// Volume of an atom of a usual solid or liquid, angstrom^3, for choices that must not change while
// the cell does.
inline constexpr double kUsualVolume = 20.0;

// Accuracies for which spacings are known, descending, and for each order of the spline the mesh
// spacing in units of sigma that reaches the first of them.
const std::vector<double> &mesh_accuracies();
const std::map<int, std::vector<double>> &mesh_spacings();

// Spacing in units of sigma that reaches an accuracy, 0 where the spline does not or is not known.
double mesh_spacing(int order, double accuracy);
// Accuracy that a known spline reaches at a spacing in units of sigma; beyond what was measured by
// the power of the spacing that ends the table.
double mesh_accuracy(int order, double spacing);
// rms error of forces (eV/angstrom) at an accuracy, for uncorrelated charges of this mean square
// (e^2), number per volume (1/angstrom^3) and width (angstrom): that of a charge's force on itself,
// which depends on its place on the mesh, and as many others as are within its width.
double mesh_force_error(double accuracy, double mean_square, double density, double sigma);

double mesh_cost(double n_atoms, double n_points, int order, const MeshCosts &costs);

// The cheapest spline for an accuracy, and its spacing in units of sigma. `volume`: of the cell, in
// units of sigma^3, times the number of meshes. Order 0 where no spline reaches the accuracy.
struct MeshSpline {
    int order = 0;
    double spacing = 0.0;
};
MeshSpline cheapest_spline(double n_atoms, double volume, double accuracy, const MeshCosts &costs);

// Smallest number from `minimum` on that is a product of 2, 3 and 5: fast transforms.
int fft_size(double minimum);

// The mesh of a cell for charges of one width.
struct MeshWish {
    std::array<double, 3> lengths{};  // of the cell's vectors, in units of sigma
    double volume = 0.0;              // of the cell, in units of sigma^3
    double n_atoms = 0.0;
    double accuracy = 0.0;
    int order = 0;                // 0: the cheapest
    std::array<int, 3> points{};  // zeros: as many as the accuracy needs
};
struct MeshPlan {
    int order = 0;  // 0 where the accuracy is out of reach
    std::array<int, 3> points{};
    double accuracy = 0.0;  // that it reaches
};
MeshPlan plan_mesh(const MeshWish &wish, const MeshCosts &costs);

}  // namespace equicalc
