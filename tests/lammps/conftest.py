"""Decks, structures and small models for runs of the real `lmp`, alone and under MPI.

Every deck runs in its own directory as a process of its own: what a user types is what is tested.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from equicalc import EquiCalculator
from equicalc.deploy import export_network
from equicalc.lammps_run import BAR_PER_EV_A3, LammpsRun, run_deck, single_point, write_data
from equicalc.nn import EquiNetwork, NetworkConfig

ELEMENTS = ["K", "Cl"]
TIGHT = "ewald 1.0e-12"

HEADER = """units metal
atom_style charge
atom_modify map yes
read_data structure.data
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lammps)


@pytest.fixture(scope="session")
def deep_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_model`, with two exchanges between three layers."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = NetworkConfig(elements=ELEMENTS, cutoff=4.0, channels=4, n_layers=3)
        network = EquiNetwork(config)
        network.set_statistics({"K": -1.25, "Cl": -2.5}, 0.5, 12.0, {"K": 0.7, "Cl": -0.7})
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return Path(export_network(network, tmp_path_factory.mktemp("models") / "deep.pt"))


def salt(repeat: tuple[int, int, int] = (2, 2, 2), rattle: float = 0.15) -> Atoms:
    """Rattled rock salt, 8 atoms times the product of `repeat`."""
    atoms = bulk("KCl", "rocksalt", a=6.29, cubic=True) * repeat
    atoms.rattle(rattle, seed=3)
    return atoms


def skewed_salt() -> Atoms:
    """64 rattled atoms in a triclinic cell."""
    atoms = salt()
    strain = np.array([[0.02, 0.05, -0.04], [0.0, -0.01, 0.07], [0.0, 0.0, 0.03]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


def from_ase(atoms: Atoms, model: Path, dtype: str = "float64") -> dict[str, np.ndarray]:
    """Energy, forces, stress [3, 3] and charges of the ASE calculator with the exact sum."""
    atoms = atoms.copy()
    kspace = "ewald" if all(atoms.pbc) else "direct"
    atoms.calc = EquiCalculator(
        str(model), dtype=dtype, kspace=kspace, kspace_accuracy=1e-12, check=False
    )
    result = {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(),
        "charges": atoms.get_charges(),
    }
    if all(atoms.pbc):
        result["stress"] = atoms.get_stress(voigt=False)
    return result


def differences(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest deviation of every quantity both have; of the energy, per atom."""
    found = {
        key: float(np.abs(np.asarray(a[key]) - np.asarray(b[key])).max())
        for key in sorted(a.keys() & b.keys())
    }
    found["energy"] /= len(a["forces"])
    return found


class Bench:
    """A directory in which structures and decks are written and run."""

    elements = ELEMENTS
    tight = TIGHT
    header = HEADER
    bar_per_ev_a3 = BAR_PER_EV_A3
    salt = staticmethod(salt)
    skewed_salt = staticmethod(skewed_salt)
    from_ase = staticmethod(from_ase)
    differences = staticmethod(differences)

    def __init__(self, directory: Path):
        self.directory = directory

    def from_lammps(self, atoms: Atoms, model: Path, **options) -> dict[str, np.ndarray]:
        """As `single_point`, with the exact sum unless told otherwise."""
        options = {"kspace": TIGHT, **options}
        return single_point(atoms, str(model), ELEMENTS, self.directory, **options)

    def run(
        self, deck: str, atoms: Atoms | None = None, ranks: int = 1, words: tuple[str, ...] = ()
    ) -> LammpsRun:
        """Write structure.data and the deck, run it; LammpsError if LAMMPS stops."""
        if atoms is not None:
            write_data(self.directory / "structure.data", atoms, ELEMENTS)
        path = self.directory / "in.deck"
        path.write_text(deck)
        return run_deck(path, ranks, arguments=words)

    def deck(self, model: Path, body: str, kspace: str | None = TIGHT, style: str = "") -> str:
        """Commands of a run of structure.data with the model, then `body`."""
        lines = [f"pair_style equicalc {style}", f"pair_coeff * * {model} K Cl"]
        if kspace is not None:
            lines.append(f"kspace_style {kspace}")
        return HEADER + "\n".join(lines) + "\n" + body

    def frames(self, name: str) -> list[np.ndarray]:
        """Columns of every frame of a dump file."""
        found = []
        for frame in (self.directory / name).read_text().split("ITEM: ATOMS")[1:]:
            rows = frame.split("ITEM:")[0].split("\n")[1:-1]
            found.append(np.array([[float(word) for word in row.split()] for row in rows]))
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
