"""Fixtures shared by all tests."""

from pathlib import Path
from typing import Any

import pytest
import torch

TINY_CUTOFF = 4.0


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the scenario matrix of LAMMPS: largest deviations on each number of ranks."""
    rows: dict[str, dict[int, str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for key, value in getattr(report, "user_properties", []):
                if key == "scenario":
                    name, ranks, worst = value
                    text = f"{worst.get('energy', 0.0):.0e} {worst.get('forces', 0.0):.0e}"
                    rows.setdefault(name, {})[ranks] = text + ("" if outcome == "passed" else " !")
    if not rows:
        return
    write = terminalreporter.write_line
    terminalreporter.section("LAMMPS: largest deviations of energy (eV/atom) and forces (eV/A)")
    columns = sorted({ranks for row in rows.values() for ranks in row})
    width = max(map(len, rows))
    write(" " * width + "".join(f"{f'{ranks} rank(s)':>16}" for ranks in columns))
    for name, row in rows.items():
        write(name.ljust(width) + "".join(f"{row.get(ranks, '-'):>16}" for ranks in columns))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small, randomly initialised network for K and Cl with charges, exported to a file."""
    return export_tiny(tmp_path_factory.mktemp("tiny") / "tiny.pt", "predicted")


@pytest.fixture(scope="session")
def tiny_model_without_charges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without charges: short range only."""
    return export_tiny(tmp_path_factory.mktemp("tiny") / "short.pt", "none")


def export_tiny(path: Path, charge_model: str, epsilon_inf: float = 1.0, **settings: Any) -> Path:
    """Write a small random network with any charge model."""
    from equicalc.deploy import export_network

    return export_network(tiny_network(charge_model, epsilon_inf, **settings), path)


def tiny_network(
    charge_model: str,
    epsilon_inf: float = 1.0,
    elements: tuple[str, ...] = ("K", "Cl"),
    **settings: Any,
) -> Any:
    """Return a small random network, the same one for the same arguments."""
    from equicalc.nn import EquiNetwork, NetworkConfig

    with torch.random.fork_rng():
        torch.manual_seed(11)
        network = EquiNetwork(
            NetworkConfig(
                elements=list(elements),
                cutoff=TINY_CUTOFF,
                channels=4,
                n_bessel=6,
                n_radial=4,
                radial_hidden=8,
                readout_hidden=8,
                charge_model=charge_model,
                **settings,
            )
        )
        energies, charges = {"K": -1.3, "Cl": -2.1}, {"K": 0.7, "Cl": -0.7}
        network.set_statistics(
            reference_energies={e: energies.get(e, -1.0) for e in elements},
            energy_scale=0.5,
            mean_neighbours=12.0,
            nominal_charges={e: charges.get(e, 0.0) for e in elements},
            epsilon_inf=epsilon_inf,
        )
        with torch.no_grad():
            # Readouts may start at zero; a test must see every part of the network at work.
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def export_committee(directory: Path, charge_model: str, n: int = 3, **settings: Any) -> list[Path]:
    """Write networks of one kind whose weights differ a little, as those of several trainings."""
    from equicalc.deploy import export_network

    paths = []
    for k in range(n):
        network = tiny_network(charge_model, **settings)
        generator = torch.Generator().manual_seed(k)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.requires_grad:
                    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter.add_(0.05 * noise)
        paths.append(Path(export_network(network, directory / f"member{k}.pt")))
    return paths
