// Python side of ewald.h and mesh.h; numpy arrays in and out, the interpreter lock released while
// summing.
#include "python/ewald_bindings.h"

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

#include "coulomb/ewald.h"
#include "coulomb/mesh.h"

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

// Arrays which the core reads and writes in place: no conversion of the argument to another type or
// layout.
template <class Value>
using InPlace = py::array_t<Value, py::array::c_style>;

template <class Value>
Value *sized(InPlace<Value> &array, std::size_t size, const char *name) {
    if (static_cast<std::size_t>(array.size()) != size) {
        throw std::invalid_argument(std::string(name) + " must have " + std::to_string(size) +
                                    " entries");
    }
    return array.mutable_data();
}

template <class Real>
void bind_mesh(py::module_ &module, const char *name) {
    using Mesh = equicalc::CoulombMesh<Real>;
    const auto make = [](const Array &cell, const std::array<int, 3> &points, int order,
                         const std::vector<double> &widths, double k_inner, double k_outer,
                         int threads) {
        expect_shape(cell, "cell", {3, 3});
        const equicalc::CoulombOptions options{k_inner, k_outer, false, threads};
        py::gil_scoped_release release;
        return std::make_unique<Mesh>(cell.data(), points.data(), order, widths, options);
    };
    const auto spread = [](Mesh &mesh, const Array &charges, const Array &positions,
                           const Array &sigmas, InPlace<Real> &density) {
        const equicalc::Charges atoms = to_charges(charges, positions, sigmas);
        Real *out = sized(density, mesh.size(), "density");
        py::gil_scoped_release release;
        mesh.set_charges(atoms);
        mesh.spread(out);
    };
    const auto convolve = [](Mesh &mesh, InPlace<std::complex<Real>> &spectrum) {
        std::complex<Real> *data = sized(spectrum, mesh.spectrum_size(), "spectrum");
        py::gil_scoped_release release;
        mesh.convolve(data);
    };
    const auto gather = [](const Mesh &mesh, InPlace<Real> &potential) {
        const Real *data = sized(potential, mesh.size(), "potential");
        equicalc::CoulombSum sum;
        {
            py::gil_scoped_release release;
            sum = mesh.gather(data);
        }
        return to_dict(sum, static_cast<py::ssize_t>(sum.potentials.size()));
    };
    py::class_<Mesh>(module, name, "Sum over waves on a mesh; see csrc/coulomb/mesh.h.")
        .def(py::init(make), py::arg("cell"), py::arg("points"), py::arg("order"),
             py::arg("widths"), py::arg("k_inner"), py::arg("k_outer"), py::arg("threads"))
        .def("spread", spread, py::arg("charges"), py::arg("positions"), py::arg("sigmas"),
             py::arg("density").noconvert())
        .def("convolve", convolve, py::arg("spectrum").noconvert())
        .def("gather", gather, py::arg("potential").noconvert());
}

}  // namespace

void bind_ewald(py::module_ &module) {
    module.def("coulomb_bulk", &bulk, py::arg("charges"), py::arg("positions"), py::arg("sigmas"),
               py::arg("cell"), py::arg("k_inner"), py::arg("k_outer"), py::arg("atom_virials"),
               py::arg("threads"), "Sum over waves of a periodic cell; see csrc/coulomb/ewald.h.");
    module.def("coulomb_open", &open, py::arg("charges"), py::arg("positions"), py::arg("sigmas"),
               py::arg("atom_virials"), py::arg("threads"),
               "Sum over pairs of a cluster; see csrc/coulomb/ewald.h.");
    bind_mesh<double>(module, "CoulombMesh");
    bind_mesh<float>(module, "CoulombMeshSingle");
}
