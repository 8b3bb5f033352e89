// Adds what is in mesh_choice.h and mesh_solver.h to the Python module.
#pragma once

#include <pybind11/pybind11.h>

void bind_mesh_solver(pybind11::module_ &module);
