// equicalc::mesh_sum, mesh_missing and mesh_windows: what CoulombMesh of mesh.h is on the CPU, for
// charges that are on the device. Splines are in cuda/mesh.h, waves in cuda/mesh_waves.h.
#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "cuda/mesh.h"
#include "cuda/mesh_waves.h"
#include "coulomb/device_mesh.h"
#include "operators/fused_ops.h"
#include "coulomb/mesh.h"

namespace equicalc {
namespace {

using torch::Tensor;
using Doubles = at::ArrayRef<double>;

// Runs a functor on the device; on the CPU one item after the other, since atoms add to the same
// points of the mesh.
template <typename F>
void run_in_order(const Tensor &where, const F &functor, int64_t n_items) {
    if (uses_groups(where)) {
        run_groups(where, functor, n_items);
        return;
    }
    std::vector<double> memory(1);
    if constexpr (requires { functor.memory_bytes(); }) {
        memory.resize(functor.memory_bytes() / sizeof(double) + 1);
    }
    for (int64_t item = 0; item < n_items; ++item) {
        functor(item, groups::Lane{memory.data()});
    }
}

// Calls body(Order) with the order as a constant.
template <typename Body>
void with_order(int64_t order, const Body &body) {
    switch (order) {
        case 3:
            return body(std::integral_constant<int, 3>{});
        case 4:
            return body(std::integral_constant<int, 4>{});
        case 5:
            return body(std::integral_constant<int, 5>{});
        case 6:
            return body(std::integral_constant<int, 6>{});
        case 7:
            return body(std::integral_constant<int, 7>{});
        case 8:
            return body(std::integral_constant<int, 8>{});
        default:
            TORCH_CHECK(false, "equicalc: the order of the spline must lie between 3 and 8; found ",
                        order);
    }
}

groups::MeshGrid grid_of(Doubles cell, at::IntArrayRef points, int64_t order) {
    TORCH_CHECK(cell.size() == 9 && points.size() == 3,
                "equicalc: a mesh has 9 numbers of the cell ", "and 3 of points, found ",
                cell.size(), " and ", points.size());
    TORCH_CHECK(*std::min_element(points.begin(), points.end()) >= order,
                "equicalc: a mesh for splines of order ", order,
                " needs as many points in each direction; found ", points);
    const Reciprocal reciprocal = make_reciprocal(cell.data());
    groups::MeshGrid grid;
    for (int a = 0; a < 3; ++a) {
        grid.points[a] = static_cast<int>(points[a]);
        std::copy(reciprocal.inverse[a], reciprocal.inverse[a] + 3, grid.inverse + 3 * a);
    }
    return grid;
}

groups::WaveGrid waves_of(const groups::MeshGrid &grid, const Tensor &windows, const Tensor &sigmas,
                          Doubles edge) {
    const int64_t n = int64_t(grid.points[0]) + grid.points[1] + grid.points[2];
    TORCH_CHECK(windows.is_contiguous() && windows.scalar_type() == torch::kFloat64 &&
                    windows.dim() == 2 && windows.size(0) == 2 && windows.size(1) == n,
                "equicalc: the windows of this mesh are float64 [2, ", n, "], found ",
                windows.sizes());
    check_like(sigmas, windows, "sigmas");
    TORCH_CHECK(
        sigmas.is_contiguous() && sigmas.dim() == 1 && sigmas.size(0) > 0 && edge.size() == 2,
        "equicalc: expected sigmas [widths] and the 2 ends of the range of waves, found ",
        sigmas.sizes(), " and ", edge.size());
    const double *influence = windows.data_ptr<double>();
    return {grid, edge[0], edge[1], influence, influence + n};
}

// The finest unit, a power of two, of which no mesh point can hold more than an integer has room
// for, were all atoms at one place.
double charge_unit(int64_t n_atoms, double largest) {
    int exponent = 0;
    std::frexp(static_cast<double>(n_atoms) * largest, &exponent);
    return std::ldexp(1.0, std::max(exponent, -960) - 62);  // a number that has an inverse
}

// The charges of a call.
struct Atoms {
    Tensor positions, charges;
    const int32_t *members;  // which width is an atom's; nullptr where there is one
    double largest;          // no charge is larger

    int64_t count() const { return charges.size(0); }
};

// Charges on the meshes [widths, n0, n1, n2].
template <typename T>
Tensor spread(const Atoms &atoms, const groups::MeshGrid &grid, int64_t order, int64_t n_widths) {
    const double unit = charge_unit(atoms.count(), atoms.largest);
    const auto options = atoms.charges.options();
    const Tensor counts = torch::zeros({n_widths, grid.points[0], grid.points[1], grid.points[2]},
                                       options.dtype(torch::kInt64));
    with_order(order, [&](auto p) {
        run_in_order(counts,
                     groups::SpreadCharges<p>{grid, 1.0 / unit, atoms.positions.data_ptr<double>(),
                                              atoms.charges.data_ptr<double>(), atoms.members,
                                              counts.data_ptr<int64_t>()},
                     atoms.count());
    });
    Tensor density =
        torch::empty(counts.sizes(), options.dtype(c10::CppTypeToScalarType<T>::value));
    run_in_order(counts,
                 groups::MeshCharges<T>{unit, counts.data_ptr<int64_t>(), density.data_ptr<T>()},
                 counts.numel());
    return density;
}

template <typename T>
Tensor sum_on_mesh(const Atoms &atoms, const groups::WaveGrid &waves, int64_t order,
                   const Tensor &sigmas, double scale) {
    const groups::MeshGrid &grid = waves.grid;
    constexpr int64_t kAlong[] = {1, 2, 3}, kRows[] = {0};
    const int64_t points[] = {grid.points[0], grid.points[1], grid.points[2]};
    const int64_t rows = points[0] * points[1], n_atoms = atoms.count();
    const Tensor spectra =
        at::fft_rfftn(spread<T>(atoms, grid, order, sigmas.size(0)), std::nullopt, kAlong)
            .contiguous();
    const Tensor moments = torch::empty({rows, 7}, sigmas.options());
    run_in_order(
        sigmas,
        groups::FilterWaves<T>{waves, static_cast<int>(sigmas.size(0)), sigmas.data_ptr<double>(),
                               reinterpret_cast<T *>(spectra.data_ptr<c10::complex<T>>()),
                               moments.data_ptr<double>()},
        rows);
    const Tensor potential =
        at::fft_irfftn(spectra, at::IntArrayRef(points), kAlong, "forward").contiguous();
    const Tensor results = torch::empty({4 * n_atoms + 7}, sigmas.options());
    double *forces = results.data_ptr<double>();
    with_order(order, [&](auto p) {
        run_in_order(
            sigmas,
            groups::GatherForces<T, p>{grid, scale, atoms.positions.data_ptr<double>(),
                                       atoms.charges.data_ptr<double>(), atoms.members,
                                       potential.data_ptr<T>(), forces, forces + 3 * n_atoms},
            n_atoms);
    });
    Tensor sums = results.slice(0, 4 * n_atoms);
    at::sum_out(sums, moments, kRows);
    return results;
}

}  // namespace

// Forces [n, 3] and potentials [n] of atoms (eV, angstrom, e), then energy and moments of h of the
// sum over waves (see WaveSums; without prefactors): [4 n + 7]. `members`: which of the `sigmas`
// is an atom's, empty where there is one; `largest`: no charge is larger.
Tensor mesh_sum(const Tensor &positions, const Tensor &charges, const Tensor &members,
                const Tensor &windows, const Tensor &sigmas, Doubles cell, at::IntArrayRef points,
                int64_t order, Doubles edge, double largest, bool single) {
    check_like(positions, windows, "positions");
    check_like(charges, windows, "charges");
    const int64_t n_atoms = charges.numel(), n_widths = sigmas.numel();
    TORCH_CHECK(positions.is_contiguous() && positions.dim() == 2 && positions.size(1) == 3 &&
                    charges.is_contiguous() && charges.dim() == 1 && positions.size(0) == n_atoms,
                "equicalc: mesh_sum takes positions [n, 3] and charges [n], found ",
                positions.sizes(), " and ", charges.sizes());
    TORCH_CHECK(members.device() == charges.device() && members.scalar_type() == torch::kInt32 &&
                    members.is_contiguous() && members.numel() == (n_widths > 1 ? n_atoms : 0),
                "equicalc: members are int32 [n] for several sigmas and empty for one, found ",
                members.scalar_type(), " ", members.sizes(), " for ", n_widths, " sigmas");
    TORCH_CHECK(std::isfinite(largest) && largest >= 0.0, "equicalc: the largest charge is ",
                largest, ", expected a number");
    const groups::WaveGrid waves = waves_of(grid_of(cell, points, order), windows, sigmas, edge);
    const Atoms atoms{positions, charges, n_widths > 1 ? members.data_ptr<int32_t>() : nullptr,
                      largest};
    const double scale = 4.0 * kPi * kCoulomb / make_reciprocal(cell.data()).volume;
    const auto sum = single ? &sum_on_mesh<float> : &sum_on_mesh<double>;
    return sum(atoms, waves, order, sigmas, scale);
}

// What charges of 1 e miss of their interaction with themselves on a mesh, by width: energy and
// moments of h (without prefactors) [widths, 7].
Tensor mesh_missing(const Tensor &windows, const Tensor &sigmas, Doubles cell,
                    at::IntArrayRef points, Doubles edge) {
    const groups::WaveGrid waves = waves_of(grid_of(cell, points, 1), windows, sigmas, edge);
    const int64_t rows = points[0] * points[1], n_widths = sigmas.size(0);
    const Tensor moments = torch::empty({rows, n_widths, 7}, sigmas.options());
    run_in_order(sigmas,
                 groups::MissingWaves{waves, static_cast<int>(n_widths), sigmas.data_ptr<double>(),
                                      moments.data_ptr<double>()},
                 rows * n_widths);
    return moments.sum(0);
}

// Windows of the spline along the three directions, one after the other [2, n0 + n1 + n2]: the
// influence, and what is kept of a charge's interaction with itself. On the CPU.
Tensor mesh_windows(at::IntArrayRef points, int64_t order) {
    std::vector<double> all[2], one[2];
    for (const int64_t n : points) {
        make_window(static_cast<int>(n), static_cast<int>(order), one[0], one[1]);
        for (int kind = 0; kind < 2; ++kind) {
            all[kind].insert(all[kind].end(), one[kind].begin(), one[kind].end());
        }
    }
    return torch::stack(
        {torch::tensor(all[0], torch::kFloat64), torch::tensor(all[1], torch::kFloat64)});
}

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def(
        "mesh_sum(Tensor positions, Tensor charges, Tensor members, Tensor windows, Tensor sigmas, "
        "float[] cell, int[] points, int order, float[] edge, float largest, bool single) "
        "-> Tensor");
    library.def(
        "mesh_missing(Tensor windows, Tensor sigmas, float[] cell, int[] points, float[] edge) "
        "-> Tensor");
    library.def("mesh_windows(int[] points, int order) -> Tensor", &mesh_windows);
}

EQUICALC_REGISTER_KERNELS(mesh_sum, mesh_sum)
EQUICALC_REGISTER_KERNELS(mesh_missing, mesh_missing)

}  // namespace equicalc
