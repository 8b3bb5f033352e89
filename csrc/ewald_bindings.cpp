// Python side of ewald.h and mesh.h; numpy arrays in and out, the interpreter lock released while
// summing.
#include "ewald_bindings.h"

#include <pybind11/complex.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <complex>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "ewald.h"
#include "mesh.h"

namespace py = pybind11;

namespace {

using Array = py::array_t<double, py::array::c_style | py::array::forcecast>;

void expect_shape(const Array &array, const char *name, std::vector<py::ssize_t> shape) {
    if (std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()) != shape) {
        std::string text = std::string(name) + " must have the shape [";
        for (std::size_t i = 0; i < shape.size(); ++i) {
            text += (i ? ", " : "") + std::to_string(shape[i]);
        }
        throw std::invalid_argument(text + "]");
    }
}

Array to_array(const std::vector<double> &values, std::vector<py::ssize_t> shape) {
    Array array(shape);
    std::copy(values.begin(), values.end(), array.mutable_data());
    return array;
}

py::dict to_dict(const equicalc::CoulombSum &sum, py::ssize_t n) {
    py::dict result;
    result["energy"] = sum.energy;
    result["potentials"] = to_array(sum.potentials, {n});
    result["forces"] = to_array(sum.forces, {n, 3});
    result["virial"] = to_array(std::vector<double>(sum.virial, sum.virial + 9), {3, 3});
    result["atom_virials"] = py::none();
    if (!sum.atom_virials.empty() || n == 0) {
        result["atom_virials"] = to_array(sum.atom_virials, {n, 3, 3});
    }
    return result;
}

equicalc::Charges to_charges(const Array &charges, const Array &positions, const Array &sigmas) {
    const py::ssize_t n = charges.size();
    expect_shape(charges, "charges", {n});
    expect_shape(positions, "positions", {n, 3});
    expect_shape(sigmas, "sigmas", {n});
    return {static_cast<std::size_t>(n), charges.data(), positions.data(), sigmas.data()};
}

py::dict bulk(const Array &charges, const Array &positions, const Array &sigmas, const Array &cell,
              double k_inner, double k_outer, bool atom_virials, int threads) {
    const equicalc::Charges atoms = to_charges(charges, positions, sigmas);
    expect_shape(cell, "cell", {3, 3});
    const equicalc::CoulombOptions options{k_inner, k_outer, atom_virials, threads};
    equicalc::CoulombSum sum;
    {
        py::gil_scoped_release release;
        sum = equicalc::bulk_sum(atoms, cell.data(), options);
    }
    return to_dict(sum, charges.size());
}

py::dict open(const Array &charges, const Array &positions, const Array &sigmas, bool atom_virials,
              int threads) {
    const equicalc::Charges atoms = to_charges(charges, positions, sigmas);
    const equicalc::CoulombOptions options{0.0, 0.0, atom_virials, threads};
    equicalc::CoulombSum sum;
    {
        py::gil_scoped_release release;
        sum = equicalc::open_sum(atoms, options);
    }
    return to_dict(sum, charges.size());
}

using Mesh = equicalc::CoulombMesh;
using Spectrum = py::array_t<std::complex<double>, py::array::c_style>;

std::unique_ptr<Mesh> make_mesh(const Array &cell, const std::array<int, 3> &points, int order,
                                double k_inner, double k_outer, int threads) {
    expect_shape(cell, "cell", {3, 3});
    const equicalc::CoulombOptions options{k_inner, k_outer, false, threads};
    return std::make_unique<Mesh>(cell.data(), points.data(), order, options);
}

Array spread(Mesh &mesh, const Array &charges, const Array &positions, const Array &sigmas) {
    const equicalc::Charges atoms = to_charges(charges, positions, sigmas);
    py::gil_scoped_release release;
    mesh.set_charges(atoms);
    py::gil_scoped_acquire acquire;
    Array density(static_cast<py::ssize_t>(mesh.size()));
    double *out = density.mutable_data();
    py::gil_scoped_release again;
    mesh.spread(out);
    return density;
}

// In place, hence no conversion of the argument to another type or layout.
void convolve(Mesh &mesh, Spectrum &spectrum) {
    if (static_cast<std::size_t>(spectrum.size()) != mesh.spectrum_size()) {
        throw std::invalid_argument("spectrum must have " + std::to_string(mesh.spectrum_size()) +
                                    " entries");
    }
    std::complex<double> *data = spectrum.mutable_data();
    py::gil_scoped_release release;
    mesh.convolve(data);
}

py::dict gather(const Mesh &mesh, const Array &potential) {
    if (static_cast<std::size_t>(potential.size()) != mesh.size()) {
        throw std::invalid_argument("potential must have " + std::to_string(mesh.size()) +
                                    " entries");
    }
    equicalc::CoulombSum sum;
    {
        py::gil_scoped_release release;
        sum = mesh.gather(potential.data());
    }
    return to_dict(sum, static_cast<py::ssize_t>(sum.potentials.size()));
}

}  // namespace

void bind_ewald(py::module_ &module) {
    module.def("coulomb_bulk", &bulk, py::arg("charges"), py::arg("positions"), py::arg("sigmas"),
               py::arg("cell"), py::arg("k_inner"), py::arg("k_outer"), py::arg("atom_virials"),
               py::arg("threads"), "Sum over waves of a periodic cell; see csrc/ewald.h.");
    module.def("coulomb_open", &open, py::arg("charges"), py::arg("positions"), py::arg("sigmas"),
               py::arg("atom_virials"), py::arg("threads"),
               "Sum over pairs of a cluster; see csrc/ewald.h.");
    py::class_<Mesh>(module, "CoulombMesh", "Sum over waves on a mesh; see csrc/mesh.h.")
        .def(py::init(&make_mesh), py::arg("cell"), py::arg("points"), py::arg("order"),
             py::arg("k_inner"), py::arg("k_outer"), py::arg("threads"))
        .def("spread", &spread, py::arg("charges"), py::arg("positions"), py::arg("sigmas"))
        .def("convolve", &convolve, py::arg("spectrum").noconvert())
        .def("gather", &gather, py::arg("potential"));
}
