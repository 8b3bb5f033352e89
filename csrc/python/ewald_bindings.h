// Adds the functions of ewald.h to the Python module.
#pragma once

#include <pybind11/pybind11.h>

void bind_ewald(pybind11::module_ &module);
