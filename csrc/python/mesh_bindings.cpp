// Python side of mesh_choice.h and mesh_solver.h.
#include "python/mesh_bindings.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "coulomb/mesh_choice.h"
#include "coulomb/mesh_solver.h"

namespace py = pybind11;

namespace {

using Array = py::array_t<double, py::array::c_style | py::array::forcecast>;

std::unique_ptr<equicalc::MeshSolver> make_solver(double sigma, const std::array<int, 3> &points,
                                                  int order, double accuracy, bool single,
                                                  const std::optional<std::string> &device,
                                                  int threads) {
    equicalc::MeshOptions options;
    options.sigma = sigma;
    options.points = points;
    options.order = order;
    options.accuracy = accuracy;
    options.single = single;
    options.on_device = device.has_value();
    options.device = torch::Device(device.value_or("cpu"));
    options.threads = threads;
    return equicalc::MeshSolver::make(options);
}

py::dict solve(equicalc::MeshSolver &solver, const Array &charges, const Array &positions,
               const Array &cell, std::size_t first, std::optional<std::size_t> last,
               bool atom_virials, bool source_moments) {
    const auto n = static_cast<std::size_t>(charges.size());
    if (charges.ndim() != 1 || positions.ndim() != 2 || positions.shape(0) != charges.size() ||
        positions.shape(1) != 3 || cell.ndim() != 2 || cell.shape(0) != 3 || cell.shape(1) != 3) {
        throw std::invalid_argument("expected charges [n], positions [n, 3] and cell [3, 3]");
    }
    const equicalc::MeshCharges atoms{n,
                                      positions.data(),
                                      charges.data(),
                                      first,
                                      std::min(last.value_or(n), n),
                                      atom_virials,
                                      source_moments};
    const equicalc::CoulombSum *sum = nullptr;
    {
        py::gil_scoped_release release;
        sum = &solver.solve(cell.data(), atoms);
    }
    py::dict result;
    result["energy"] = sum->energy;
    const auto found = static_cast<py::ssize_t>(sum->potentials.size());
    result["potentials"] = Array(found, sum->potentials.data());
    result["forces"] = Array({found, py::ssize_t(3)}, sum->forces.data());
    result["virial"] = Array({py::ssize_t(3), py::ssize_t(3)}, sum->virial);
    if (atom_virials) {
        result["atom_virials"] =
            Array({found, py::ssize_t(3), py::ssize_t(3)}, sum->atom_virials.data());
    }
    if (source_moments) {
        result["source_moments"] = Array({found, py::ssize_t(3)}, sum->source_moments.data());
    }
    return result;
}

std::pair<int, double> cheapest(double n_atoms, double volume, double accuracy,
                                const equicalc::MeshCosts &costs) {
    const equicalc::MeshSpline found = equicalc::cheapest_spline(n_atoms, volume, accuracy, costs);
    return {found.order, found.spacing};
}

}  // namespace

void bind_mesh_solver(py::module_ &module) {
    using equicalc::MeshCosts;
    py::class_<MeshCosts>(module, "MeshCosts", "Rough costs in nanoseconds; see mesh_choice.h.")
        .def_readonly("point", &MeshCosts::point)
        .def_readonly("spline", &MeshCosts::spline)
        .def_readonly("call", &MeshCosts::call);
    module.attr("MESH_ON_CPU") = equicalc::kMeshOnCpu;
    module.attr("MESH_ON_DEVICE") = equicalc::kMeshOnDevice;
    module.attr("USUAL_VOLUME") = equicalc::kUsualVolume;
    module.def("mesh_accuracies", &equicalc::mesh_accuracies);
    module.def("mesh_spacings", &equicalc::mesh_spacings);
    module.def("mesh_spacing", &equicalc::mesh_spacing, py::arg("order"), py::arg("accuracy"));
    module.def("mesh_accuracy", &equicalc::mesh_accuracy, py::arg("order"), py::arg("spacing"));
    module.def("mesh_force_error", &equicalc::mesh_force_error, py::arg("accuracy"),
               py::arg("mean_square"), py::arg("density"), py::arg("sigma"));
    module.def("mesh_cost", &equicalc::mesh_cost, py::arg("n_atoms"), py::arg("n_points"),
               py::arg("order"), py::arg("costs"));
    module.def("cheapest_spline", &cheapest, py::arg("n_atoms"), py::arg("volume"),
               py::arg("accuracy"), py::arg("costs"));
    module.def("fft_size", &equicalc::fft_size, py::arg("minimum"));
    module.def("taper_range", &equicalc::taper_range, py::arg("accuracy"));
    module.def("mesh_wave_accuracy", &equicalc::mesh_wave_accuracy, py::arg("accuracy"));
    py::class_<equicalc::MeshSolver>(module, "MeshSolver", "See csrc/coulomb/mesh_solver.h.")
        .def(py::init(&make_solver), py::arg("sigma"), py::arg("points"), py::arg("order"),
             py::arg("accuracy"), py::arg("single") = false, py::arg("device") = py::none(),
             py::arg("threads") = 1)
        .def("solve", &solve, py::arg("charges"), py::arg("positions"), py::arg("cell"),
             py::arg("first") = 0, py::arg("last") = py::none(), py::arg("atom_virials") = false,
             py::arg("source_moments") = false);
}
