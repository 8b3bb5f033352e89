// Python's view of the core: module equicalc._core. Only files named *bindings.cpp know Python.
#include <torch/csrc/utils/pybind.h>

#include "model/device_steps.h"
#include "equicalc.h"
#include "python/ewald_bindings.h"
#include "vectors/instructions.h"
#include "python/mesh_bindings.h"

namespace py = pybind11;

namespace equicalc {
namespace {

// Lets Python implement a halo exchange (tests run several ranks in one process this way).
struct PyHaloExchange : public HaloExchange, public py::trampoline_self_life_support {
    // In Python: (local [n_local, width], n_total) -> [n_total, width], and
    // (gradient [n_total, width], n_local) -> [n_local, width].
    void forward(const torch::Tensor &rows, int64_t n_local) override {
        const torch::Tensor all = as_matrix(rows);
        put(call("forward", all.narrow(0, 0, n_local), rows.size(0)), rows, "forward");
    }
    void reverse(const torch::Tensor &rows, int64_t n_local) override {
        put(call("reverse", as_matrix(rows), n_local), rows.narrow(0, 0, n_local), "reverse");
    }

  private:
    static torch::Tensor as_matrix(const torch::Tensor &rows) {
        return rows.reshape({rows.size(0), c10::multiply_integers(rows.sizes().slice(1))});
    }
    torch::Tensor call(const char *name, const torch::Tensor &rows, int64_t count) const {
        const py::gil_scoped_acquire gil;
        const py::function function =
            py::get_override(static_cast<const HaloExchange *>(this), name);
        TORCH_CHECK(function, "a HaloExchange in Python must define ", name);
        return function(rows, count).cast<torch::Tensor>();
    }
    static void put(const torch::Tensor &result, const torch::Tensor &rows, const char *name) {
        const int64_t width = c10::multiply_integers(rows.sizes().slice(1));
        TORCH_CHECK(result.dim() == 2 && result.size(0) == rows.size(0) && result.size(1) == width,
                    "HaloExchange::", name, " must return a tensor of shape [", rows.size(0), ", ",
                    width, "]");
        rows.copy_(result.view_as(rows));
    }
};

std::shared_ptr<Model> load_model(const std::string &path, const std::string &dtype,
                                  const std::string &device, bool scripted, bool compiled) {
    LoadOptions options;
    options.scripted = scripted;
    options.compiled = compiled;
    if (dtype == "float32") {
        options.dtype = torch::kFloat32;
    } else if (dtype != "float64") {
        throw Error("equicalc: found dtype '" + dtype + "', expected 'float64' or 'float32'");
    }
    options.device = torch::Device(device);
    return Model::load(path, options);
}

// Python classes of equicalc/errors.py, so that one `except EquicalcError` catches both languages.
void raise_as(const char *name, const char *text) {
    py::set_error(py::module_::import("equicalc.errors").attr(name), text);
}

void translate(std::exception_ptr pointer) {
    try {
        if (pointer) {
            std::rethrow_exception(pointer);
        }
    } catch (const ModelFileError &error) {
        raise_as("ModelFileError", error.what());
    } catch (const Error &error) {
        raise_as("EquicalcError", error.what());
    }
}

void bind_model(py::module_ &module) {
    py::class_<ModelInfo>(module, "ModelInfo")
        .def_readonly("format_version", &ModelInfo::format_version)
        .def_readonly("name", &ModelInfo::name)
        .def_readonly("elements", &ModelInfo::elements)
        .def_readonly("cutoff", &ModelInfo::cutoff)
        .def_readonly("n_layers", &ModelInfo::n_layers)
        .def_readonly("exchange_width", &ModelInfo::exchange_width)
        .def_property_readonly("charge_model",
                               [](const ModelInfo &info) { return name_of(info.charge_model); })
        .def_property_readonly("has_charges", &ModelInfo::has_charges)
        .def_readonly("sigmas", &ModelInfo::sigmas)
        .def_readonly("nominal_charges", &ModelInfo::nominal_charges)
        .def_readonly("formal_charges", &ModelInfo::formal_charges)
        .def_readonly("epsilon_inf", &ModelInfo::epsilon_inf)
        .def_readonly("json", &ModelInfo::json);
    py::class_<Model, std::shared_ptr<Model>>(module, "Model")
        .def_static("load", &load_model, py::arg("path"), py::arg("dtype") = "float64",
                    py::arg("device") = "cpu", py::arg("scripted") = false,
                    py::arg("compiled") = false, py::call_guard<py::gil_scoped_release>())
        .def_property_readonly("info", &Model::info);
}

void bind_evaluator(py::module_ &module) {
    py::class_<HaloExchange, PyHaloExchange, py::smart_holder>(module, "HaloExchange")
        .def(py::init<>());
    py::class_<ForwardResult>(module, "ForwardResult")
        .def_readonly("energies", &ForwardResult::energies)
        .def_readonly("variables", &ForwardResult::variables);
    // The GIL is released: ranks of a test run as threads, and their exchanges wait for each other.
    py::class_<Evaluator>(module, "Evaluator")
        .def(py::init<std::shared_ptr<Model>>(), py::arg("model"))
        .def_property_readonly("is_direct", &Evaluator::is_direct)
        .def(
            "forward",
            [](Evaluator &self, const torch::Tensor &species, const torch::Tensor &edge_index,
               const torch::Tensor &edge_vectors, int64_t n_local, HaloExchange *exchange) {
                return self.forward({species, edge_index, edge_vectors, n_local}, exchange);
            },
            py::arg("species"), py::arg("edge_index"), py::arg("edge_vectors"), py::arg("n_local"),
            py::arg("exchange") = nullptr, py::call_guard<py::gil_scoped_release>())
        .def(
            "backward",
            [](Evaluator &self, const std::optional<torch::Tensor> &gradient,
               HaloExchange *exchange) {
                return self.backward(gradient.value_or(torch::Tensor()), exchange);
            },
            py::arg("gradient"), py::arg("exchange") = nullptr,
            py::call_guard<py::gil_scoped_release>())
        .def("variable_gradient", &Evaluator::variable_gradient, py::arg("gradient"),
             py::arg("exchange") = nullptr, py::call_guard<py::gil_scoped_release>())
        .def(
            "weighted_gradient",
            [](Evaluator &self, const torch::Tensor &energy_weights,
               const std::optional<torch::Tensor> &variable_weights) {
                return self.weighted_gradient(energy_weights,
                                              variable_weights.value_or(torch::Tensor()));
            },
            py::arg("energy_weights"), py::arg("variable_weights"),
            py::call_guard<py::gil_scoped_release>());
}

py::tuple tuple_of(EdgeForces result) {
    return py::make_tuple(std::move(result.forces), std::move(result.virial),
                          std::move(result.atom_virials));
}

void bind_device_steps(py::module_ &module) {
    py::class_<DeviceSteps>(module, "DeviceSteps")
        .def(py::init<std::shared_ptr<Model>>(), py::arg("model"))
        .def_property_readonly("is_recorded", &DeviceSteps::is_recorded)
        .def(
            "set_pairs",
            [](DeviceSteps &self, const torch::Tensor &species, const torch::Tensor &rows,
               const std::optional<torch::Tensor> &points,
               const std::optional<torch::Tensor> &shifts, int64_t n_local) {
                self.set_pairs({species, rows, points.value_or(torch::Tensor()),
                                shifts.value_or(torch::Tensor()), n_local});
            },
            py::arg("species"), py::arg("rows"), py::arg("points"), py::arg("shifts"),
            py::arg("n_local"), py::call_guard<py::gil_scoped_release>())
        .def(
            "forward",
            [](DeviceSteps &self, const torch::Tensor &positions,
               const std::optional<torch::Tensor> &cell) {
                return self.forward({positions, cell.value_or(torch::Tensor())});
            },
            py::arg("positions"), py::arg("cell"), py::call_guard<py::gil_scoped_release>())
        .def(
            "backward",
            [](DeviceSteps &self, const std::optional<torch::Tensor> &gradient,
               bool with_atom_virials) {
                const auto forces = [&] {
                    const py::gil_scoped_release without_gil;
                    return self.backward(gradient.value_or(torch::Tensor()), with_atom_virials);
                };
                return tuple_of(forces());
            },
            py::arg("gradient"), py::arg("with_atom_virials") = false)
        .def(
            "variable_forces",
            [](DeviceSteps &self, const torch::Tensor &gradient) {
                const auto forces = [&] {
                    const py::gil_scoped_release without_gil;
                    return self.variable_forces(gradient);
                };
                return tuple_of(forces());
            },
            py::arg("gradient"))
        .def("graph", [](const DeviceSteps &self) {
            const Graph graph = self.graph();
            return py::make_tuple(graph.edge_index, graph.edge_vectors);
        });
}

void bind_graph(py::module_ &module) {
    module.def(
        "select_edges",
        [](const torch::Tensor &positions, const torch::Tensor &cell,
           const torch::Tensor &candidates, const torch::Tensor &shifts, double cutoff) {
            Edges edges = select_edges(positions, cell, candidates, shifts, cutoff);
            return std::make_pair(std::move(edges.index), std::move(edges.vectors));
        },
        py::arg("positions"), py::arg("cell"), py::arg("candidates"), py::arg("shifts"),
        py::arg("cutoff"), py::call_guard<py::gil_scoped_release>());
    module.def(
        "scatter_edges",
        [](const torch::Tensor &edge_index, const torch::Tensor &edge_vectors,
           const torch::Tensor &edge_gradients, int64_t n_local, int64_t n_total,
           bool with_atom_virials) {
            EdgeForces result = EdgeScatter().sum({edge_index, edge_vectors}, edge_gradients,
                                                  n_local, n_total, with_atom_virials);
            std::optional<torch::Tensor> atom_virials;
            if (with_atom_virials) {
                atom_virials = std::move(result.atom_virials);
            }
            return std::make_tuple(std::move(result.forces), std::move(result.virial),
                                   std::move(atom_virials));
        },
        py::arg("edge_index"), py::arg("edge_vectors"), py::arg("edge_gradients"),
        py::arg("n_local"), py::arg("n_total"), py::arg("with_atom_virials") = true,
        py::call_guard<py::gil_scoped_release>());
}

}  // namespace
}  // namespace equicalc

PYBIND11_MODULE(_core, module) {
    module.doc() = "C++ core of equicalc (see csrc/equicalc.h)";
    module.attr("FORMAT_VERSION") = equicalc::kFormatVersion;
    module.def("instructions", [] { return equicalc::name_of(equicalc::instructions()); });
    py::register_exception_translator(&equicalc::translate);
    equicalc::bind_model(module);
    equicalc::bind_evaluator(module);
    equicalc::bind_device_steps(module);
    equicalc::bind_graph(module);
    bind_ewald(module);
    bind_mesh_solver(module);
}
