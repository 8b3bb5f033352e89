"""Types of the compiled module; what the functions do is said in csrc/*.h."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.float64]

FORMAT_VERSION: int

def instructions() -> str: ...

class ModelInfo:
    format_version: int
    name: str
    elements: list[str]
    cutoff: float
    n_layers: int
    exchange_width: int
    has_charges: bool
    sigma: float
    nominal_charges: list[float]
    json: str

class Model:
    @staticmethod
    def load(
        path: str,
        dtype: str = "float64",
        device: str = "cpu",
        scripted: bool = False,
        compiled: bool = False,
    ) -> Model: ...
    @property
    def info(self) -> ModelInfo: ...

class HaloExchange:
    def __init__(self) -> None: ...
    def forward(self, local: Tensor, n_total: int) -> Tensor: ...
    def reverse(self, grad_total: Tensor, n_local: int) -> Tensor: ...

class ForwardResult:
    energies: Tensor
    raw_charges: Tensor
    weights: Tensor

class Evaluator:
    is_direct: bool

    def __init__(self, model: Model) -> None: ...
    def forward(
        self,
        species: Tensor,
        edge_index: Tensor,
        edge_vectors: Tensor,
        n_local: int,
        exchange: HaloExchange | None = None,
    ) -> ForwardResult: ...
    def backward(
        self, charge_gradient: Tensor | None, exchange: HaloExchange | None = None
    ) -> Tensor: ...
    def weighted_gradient(
        self, energy_weights: Tensor, variable_weights: Tensor | None
    ) -> Tensor: ...

class DeviceSteps:
    is_recorded: bool

    def __init__(self, model: Model) -> None: ...
    def set_pairs(
        self,
        species: Tensor,
        rows: Tensor,
        points: Tensor | None,
        shifts: Tensor | None,
        n_local: int,
    ) -> None: ...
    def forward(self, positions: Tensor, cell: Tensor | None) -> ForwardResult: ...
    def backward(
        self, gradient: Tensor | None, with_atom_virials: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]: ...
    def variable_forces(self, gradient: Tensor) -> tuple[Tensor, Tensor, None]: ...
    def graph(self) -> tuple[Tensor, Tensor]: ...

def select_edges(
    positions: Tensor, cell: Tensor, candidates: Tensor, shifts: Tensor, cutoff: float
) -> tuple[Tensor, Tensor]: ...
def scatter_edges(
    edge_index: Tensor,
    edge_vectors: Tensor,
    edge_gradients: Tensor,
    n_local: int,
    n_total: int,
    with_atom_virials: bool = True,
) -> tuple[Tensor, Tensor, Tensor | None]: ...
def coulomb_bulk(
    charges: Array,
    positions: Array,
    sigmas: Array,
    cell: Array,
    k_inner: float,
    k_outer: float,
    atom_virials: bool,
    threads: int,
) -> dict[str, Any]: ...
def coulomb_open(
    charges: Array, positions: Array, sigmas: Array, atom_virials: bool, threads: int
) -> dict[str, Any]: ...

class CoulombMesh:
    def __init__(
        self,
        cell: Array,
        points: Sequence[int],
        order: int,
        widths: Sequence[float],
        k_inner: float,
        k_outer: float,
        threads: int,
    ) -> None: ...
    def spread(
        self, charges: Array, positions: Array, sigmas: Array, density: npt.NDArray[Any]
    ) -> None: ...
    def convolve(self, spectrum: npt.NDArray[Any]) -> None: ...
    def gather(self, potential: npt.NDArray[Any]) -> dict[str, Any]: ...

class CoulombMeshSingle(CoulombMesh): ...

class MeshCosts:
    point: float
    spline: float
    call: float

MESH_ON_CPU: MeshCosts
MESH_ON_DEVICE: MeshCosts
USUAL_VOLUME: float

def mesh_accuracies() -> list[float]: ...
def mesh_spacings() -> dict[int, list[float]]: ...
def mesh_spacing(order: int, accuracy: float) -> float: ...
def mesh_accuracy(order: int, spacing: float) -> float: ...
def mesh_force_error(
    accuracy: float, mean_square: float, density: float, sigma: float
) -> float: ...
def mesh_cost(n_atoms: float, n_points: float, order: int, costs: MeshCosts) -> float: ...
def cheapest_spline(
    n_atoms: float, volume: float, accuracy: float, costs: MeshCosts
) -> tuple[int, float]: ...
def fft_size(minimum: float) -> int: ...
def taper_range(accuracy: float) -> tuple[float, float]: ...
def mesh_wave_accuracy(accuracy: float) -> float: ...

class MeshSolver:
    def __init__(
        self,
        sigma: float,
        points: Sequence[int],
        order: int,
        accuracy: float,
        single: bool = False,
        device: str | None = None,
        threads: int = 1,
    ) -> None: ...
    def solve(
        self,
        charges: Array,
        positions: Array,
        cell: Array,
        first: int = 0,
        last: int | None = None,
        atom_virials: bool = False,
        source_moments: bool = False,
    ) -> dict[str, Any]: ...
