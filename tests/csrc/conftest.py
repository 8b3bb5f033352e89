"""A network of a dozen lines that keeps the file contract, to test the core on its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, List, Optional, Tuple  # noqa: UP035 (TorchScript reads these names)

import numpy as np
import pytest
import torch

from equicalc import core
from equicalc.data.neighbors import full_list

CUTOFF = 4.0


class MockNetwork(torch.nn.Module):
    """Two layers with one exchange between them; energies and charges depend on both."""

    def __init__(self, has_charges: bool = True):
        super().__init__()
        generator = torch.Generator().manual_seed(1)

        def random(*shape: int) -> torch.nn.Parameter:
            values = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return torch.nn.Parameter(0.3 * values)

        self.first = random(2, 8, 2, 3)
        self.second = random(2, 3, 8)
        self.register_buffer("weights", torch.tensor([1.0, 1.7], dtype=torch.float64))
        self.format_version: int = 2
        self.name: str = "mock"
        self.elements: List[str] = ["K", "Cl"]  # noqa: UP006
        self.cutoff: float = CUTOFF
        self.n_layers: int = 2
        self.exchange_width: int = 6
        self.charge_model: str = "predicted" if has_charges else "none"
        self.sigmas: List[float] = [1.0, 1.2]  # noqa: UP006
        self.nominal_charges: List[float] = [0.7, -0.7]  # noqa: UP006
        self.formal_charges: List[int] = [0, 0]  # noqa: UP006
        self.epsilon_inf: float = 1.0
        self.dispersion: str = ""

    def radial(self, r: torch.Tensor) -> torch.Tensor:
        k = torch.arange(1, 9, dtype=r.dtype, device=r.device) * (3.141592653589793 / self.cutoff)
        x = r / self.cutoff
        envelope = (1.0 - x) ** 3 * (1.0 + 3.0 * x + 6.0 * x * x) * (x < 1.0).to(r.dtype)
        return torch.sin(k * r[:, None]) / r[:, None] * envelope[:, None]

    @torch.jit.export
    def raw_outputs(
        self,
        species: torch.Tensor,
        edge_vectors: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> Tuple[torch.Tensor, torch.Tensor]:  # noqa: UP006
        i, j = edge_index[0], edge_index[1]
        basis = self.radial(torch.linalg.vector_norm(edge_vectors, dim=1))
        messages = torch.einsum("eb,ebcd->ecd", basis, self.first[species[j]])
        zeros = torch.zeros(n_local, 2, 3, dtype=basis.dtype, device=basis.device)
        h = torch.tanh(zeros.index_add(0, i, messages))
        everywhere = torch.ops.equicalc.exchange(h, species.shape[0])
        pairs = torch.einsum("eb,ecd,cdb->e", basis, everywhere[j], self.second)
        energies = h.sum(dim=[1, 2]) + torch.zeros_like(h[:, 0, 0]).index_add(0, i, pairs)
        charges = 0.1 * torch.tanh(h[:, 0, 0] + energies)
        variables = torch.stack([charges, self.weights[species[:n_local]]], dim=1)
        if self.charge_model == "none":
            variables = variables[:, :0]
        return energies.to(torch.float64), variables

    def forward(
        self,
        species: torch.Tensor,
        edge_vectors: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
        total_charge: Optional[torch.Tensor] = None,  # noqa: UP045
    ) -> Tuple[torch.Tensor, torch.Tensor]:  # noqa: UP006
        energies, variables = self.raw_outputs(species, edge_vectors, edge_index, n_local)
        return energies, variables[:, 0]


def save(module: Any, path: Path, metadata: dict[str, Any] | None) -> Path:
    """Write a scripted module; without metadata the extra file is left out."""
    extra = {} if metadata is None else {"equicalc.json": json.dumps(metadata)}
    torch.jit.save(torch.jit.script(module), str(path), _extra_files=extra)
    return path


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Function that writes a mock model, with attributes and metadata replaced as asked."""
    core.load_library()

    def write(
        metadata: dict[str, Any] | None = None, has_charges: bool = True, **attributes: Any
    ) -> Path:
        network = MockNetwork(has_charges)
        for name, value in attributes.items():
            setattr(network, name, value)
        path = tmp_path_factory.mktemp("mock") / "model.pt"
        return save(network, path, {"format_version": 2} if metadata is None else metadata)

    return write


@pytest.fixture(scope="session")
def mock_path(write_model: Callable[..., Path]) -> Path:
    return write_model()


@pytest.fixture(scope="session")
def core_module() -> Any:
    return core.load_library()


@pytest.fixture(scope="session")
def graph() -> dict[str, torch.Tensor]:
    """A periodic structure of 14 atoms in a triclinic cell: species, edges and edge vectors."""
    rng = np.random.default_rng(7)
    cell = 5.0 * np.eye(3) + 0.4 * rng.normal(size=(3, 3))
    positions = rng.random((14, 3)) @ cell
    edge_index, shifts = full_list(positions, cell, [True] * 3, CUTOFF)
    vectors = positions[edge_index[1]] - positions[edge_index[0]] + shifts @ cell
    return {
        "species": torch.from_numpy(rng.integers(0, 2, 14)),
        "edge_index": torch.from_numpy(edge_index),
        "edge_vectors": torch.from_numpy(vectors),
    }
