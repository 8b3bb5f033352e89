# Everything runs in .venv, which the first target builds; a second run starts in seconds.
#
#   make demo      relax, MD in ASE, NPT in LAMMPS on 1 and 2 ranks: one table, three pictures
#   make test      the tests that take seconds        make test-all   also the slow ones
#   make lint      ruff, mypy, clang-format           make bench      the tables of benchmarks/
#   make setup     only build                         make clean      remove what was built
#   make gpu       on a machine with a CUDA device: kernels built, compared with the CPU, measured
#   make sanitize  the core with every access to memory checked, over the tests that reach it
#   make docs      picture and table of the README    make format     style of all sources
#
# PYTHON=python3.12 chooses the interpreter, JOBS=4 runs four tests at once. TORCH_INDEX=URL takes
# torch from another package index, for example one with CPU-only or with ROCm builds.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test test-all lint format bench bench-lammps bench-long bench-long-range gpu sanitize docs setup \
	clean

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
TORCH_INDEX ?=
# for "make bench": PEERS="--python sevenn=PATH_OF_ITS_PYTHON ...", codes to be measured beside ours
PEERS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check $(if $(CI),--quiet) install

CXX_SOURCES := $(sort $(wildcard csrc/*.h csrc/*/* tests/csrc/*.cpp lammps_plugin/*.cpp lammps_plugin/*.h lammps_plugin/kokkos/*))
TORCH := $(shell grep -i '^torch==' requirements.txt)

# --- environment: one stamp per step, so that only what changed is done again

$(VENV)/.created:
	$(PYTHON) -m venv --clear $(VENV) || { \
	  echo "make: $(PYTHON) cannot create a virtual environment;" \
	       "on Debian: apt install python3-venv python3-dev" >&2; exit 1; }
	touch $@

# torch first: the build of equicalc compiles against it
$(VENV)/.torch: $(VENV)/.created
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	touch $@

$(VENV)/.requirements: requirements.txt $(VENV)/.torch
	$(PIP) -r requirements.txt
	touch $@

$(VENV)/.package: pyproject.toml setup.py $(CXX_SOURCES) $(VENV)/.requirements
	$(PIP) --no-build-isolation --no-deps -e .
	touch $@

setup: $(VENV)/.package

# --- what people run

demo: setup
	$(BIN)/python examples/demo.py

# One thread per process: MPI tests start several processes on few cores.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m "not slow"

test-all: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

bench: setup
	$(BIN)/python benchmarks/agreement.py
	$(BIN)/python benchmarks/nve_drift.py
	$(BIN)/python -m benchmarks.speed.network
	$(BIN)/python -m benchmarks.speed.files
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.kernels
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.training
	$(BIN)/python -m benchmarks.speed.peers $(PEERS)
	$(BIN)/python -m benchmarks.speed.aims

# Picture and table of the README.
docs: setup
	$(BIN)/python docs/overview.py
	$(BIN)/python docs/update_readme.py

# Every proof of docs/long_range.md, trainings included: an hour and a half of one core
bench-long-range: setup
	for proof in transfer force_constants phonons far_field response fragments slab chirality conservation learning_curves; do \
		$(BIN)/python -m benchmarks.long_range.$$proof || exit 1; done
	$(BIN)/python docs/update_readme.py

# Speed and scaling in LAMMPS; what is measured already is kept
bench-lammps: setup
	$(BIN)/python -m benchmarks.lammps.speed
	$(BIN)/python -m benchmarks.speed.aims

# About eight minutes, most of them for the compiler
gpu: setup
	EQUICALC_CUDA=1 $(PIP) --no-build-isolation --no-deps -e .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cuda tests/test_cuda.py tests/lammps/test_device.py
	if command -v compute-sanitizer >/dev/null; then \
		compute-sanitizer --error-exitcode 1 $(BIN)/python -m pytest -m cuda tests/test_cuda.py \
			-k "few_atoms or mace or sevennet_parity or mesh_gives"; \
	else echo "make gpu: found no compute-sanitizer, memory accesses are not checked"; fi
	$(BIN)/python -m benchmarks.speed.gpu
	$(BIN)/python -m benchmarks.lammps.gpu

# Memory and arithmetic of csrc under AddressSanitizer and UndefinedBehaviorSanitizer (GCC): a package
# of its own, which the tests import in place of the other. Kernels for lesser instructions are
# checked too, by a test that chooses them; those for devices, by their source compiled for the host.
# Torch and Python keep memory until the end, which is no leak. 35 minutes of processor time, ten of
# them for the compiler, which takes up to 2.2 GB for one file.
SANITIZED := $(abspath build/sanitized)
SANITIZED_TESTS := tests/csrc tests/nn tests/electrostatics tests/calculator
sanitize: setup
	EQUICALC_SANITIZE=1 EQUICALC_CUDA=0 $(BIN)/python setup.py -q build \
		--build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	rm -f $(SANITIZED)/report.*
	export OMP_NUM_THREADS=2 PYTHONPATH=$(SANITIZED)/lib EQUICALC_SANITIZE=1; \
	export ASAN_OPTIONS=detect_leaks=0:log_path=$(SANITIZED)/report; \
	export UBSAN_OPTIONS=print_stacktrace=1:log_path=$(SANITIZED)/report; \
	export LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libstdc++.so)"; \
	$(BIN)/pytest -n $(JOBS) -m "not lammps and not cuda" $(SANITIZED_TESTS) \
		--ignore=tests/csrc/test_cuda_sources.py \
		--max-worker-restart=4 || { head -n 40 $(SANITIZED)/report.*; exit 1; }
	@echo "make sanitize: nothing found in csrc. Not checked: torch, the LAMMPS plugin, csrc/cuda/*.cu," \
		"instructions that this processor lacks, and, in loops over vectors, use after scope."

# 20 ps of every shipped model
bench-long: setup
	$(BIN)/python benchmarks/stability.py

lint: $(VENV)/.requirements
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES)

format: $(VENV)/.requirements
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_SOURCES)

clean:
	rm -rf build equicalc.egg-info examples/output benchmarks/output
	rm -f equicalc/*.so $(VENV)/.package
	find equicalc tests examples benchmarks -name __pycache__ -type d -exec rm -rf {} +
