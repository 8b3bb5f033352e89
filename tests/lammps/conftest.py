"""Decks, structures and small models for runs of the real `lmp`, alone and under MPI.

Every deck runs in its own directory as a process of its own: what a user types is what is tested.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from equicalc import EquiCalculator
from equicalc.deploy import export_network
from equicalc.lammps_run import BAR_PER_EV_A3, LammpsRun, run_deck, single_point, write_data
from equicalc.nn import EquiNetwork, NetworkConfig
from tests.conftest import tiny_network

ELEMENTS = ["K", "Cl"]
TIGHT = "ewald 1.0e-12"

HEADER = """units metal
atom_style charge
atom_modify map yes
read_data structure.data
"""


# Every charge model, with one width and with one per element.
CHARGE_MODELS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "fixed with widths": {"charge_model": "fixed", "sigmas": {"K": 0.7, "Cl": 1.3}},
    "predicted with widths": {
        "charge_model": "predicted",
        "charge_weights": "environment",
        "sigmas": {"K": 0.8},
    },
    "transferred": {"formal_charges": {"K": 1, "Cl": -1}},
    "equilibrated": {},
    "equilibrated with widths": {"charge_model": "equilibrated", "sigmas": {"Cl": 1.2}},
}


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


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Function from a name in CHARGE_MODELS to the file of a small random network."""
    written: dict[str, Path] = {}

    def path(name: str) -> Path:
        if name not in written:
            settings = {"charge_model": name, **CHARGE_MODELS[name]}
            network = tiny_network(epsilon_inf=1.8, **settings)
            if settings["charge_model"] == "equilibrated":
                # a random network alone has charges near zero; these are near 0.7 e
                electronegativity = network.charge_head.electronegativity
                electronegativity.data += torch.tensor([-2.0, 2.0], dtype=electronegativity.dtype)
            target = tmp_path_factory.mktemp("models") / "model.pt"
            written[name] = Path(export_network(network, target))
        return written[name]

    return path


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


def cluster() -> Atoms:
    """10 rattled atoms without periodic directions."""
    atoms = salt((1, 1, 1), rattle=0.3)
    atoms += Atoms("KCl", [[8.6, 3.3, 1.4], [8.9, 5.6, 4.7]])
    atoms.set_cell([20.0, 18.0, 16.0])
    atoms.positions += 5.0
    atoms.pbc = False
    return atoms


def slab() -> Atoms:
    """8 rattled atoms with two periodic directions."""
    atoms = salt((1, 1, 1))
    atoms.center(vacuum=6.0, axis=2)
    atoms.pbc = (True, True, False)
    return atoms


def from_ase(
    atoms: Atoms, model: Path, dtype: str = "float64", field: tuple[float, ...] = (0.0, 0.0, 0.0)
) -> dict[str, np.ndarray]:
    """Energy, forces, charges, and what else there is, of the ASE calculator with the exact sum."""
    atoms = atoms.copy()
    kspace = "ewald" if any(atoms.pbc) else "direct"
    atoms.calc = EquiCalculator(
        str(model), dtype=dtype, kspace=kspace, kspace_accuracy=1e-12, check=False,
        electric_field=field,
    )  # fmt: skip
    result = {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(),
        "charges": atoms.get_charges(),
    }
    if all(atoms.pbc):
        result["stress"] = atoms.get_stress(voigt=False)
    for key in ("dipole", "polarization"):
        if key in atoms.calc.results:
            result["dipole"] = atoms.calc.results[key]
    return result


def differences(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest deviation of every quantity both have; of the energy, per atom."""
    found = {
        key: float(np.abs(np.asarray(a[key]) - np.asarray(b[key])).max())
        for key in sorted(a.keys() & b.keys())
    }
    found["energy"] /= len(a["forces"])
    return found


def assert_same(
    found: dict[str, np.ndarray], expected: dict[str, np.ndarray], limits: dict[str, float]
) -> None:
    """Every quantity that both have agrees within its limit; none of them lacks one."""
    compared = differences(found, expected)
    assert {"energy", "forces", "charges"} <= compared.keys() <= limits.keys()
    for key, deviation in compared.items():
        assert deviation < limits[key], f"{key} differ by {deviation:.1e}"


class Bench:
    """A directory in which structures and decks are written and run."""

    elements = ELEMENTS
    tight = TIGHT
    header = HEADER
    bar_per_ev_a3 = BAR_PER_EV_A3
    salt = staticmethod(salt)
    skewed_salt = staticmethod(skewed_salt)
    cluster = staticmethod(cluster)
    slab = staticmethod(slab)
    from_ase = staticmethod(from_ase)
    differences = staticmethod(differences)

    def __init__(self, directory: Path):
        self.directory = directory

    def from_lammps(self, atoms: Atoms, model: Path, **options) -> dict[str, np.ndarray]:
        """As `single_point`, with the exact sum unless told otherwise."""
        options = {"kspace": TIGHT, **options}
        return single_point(atoms, str(model), ELEMENTS, self.directory, **options)

    def evaluate(
        self,
        atoms: Atoms,
        model: Path,
        *,
        ranks: int = 1,
        kspace: str | None = TIGHT,
        field: tuple[float, ...] = (0.0, 0.0, 0.0),
        extra: str = "",
        processors: str = "* * *",
        words: str = "",
    ) -> dict[str, np.ndarray]:
        """As `from_ase`, of LAMMPS: any boundaries, any total charge, in a field or without.

        `words` come last after `pair_style equicalc`.
        """
        prism = write_data(self.directory / "structure.data", atoms, ELEMENTS)
        style = f"charge {atoms.info.get('charge', 0.0)}"
        if any(field):
            style += " efield " + " ".join(map(repr, map(float, prism.vector_to_lammps(field))))
        style += f" {words}"
        if not any(atoms.pbc):
            kspace = None
        elif not all(atoms.pbc):
            kspace = f"{kspace}\nkspace_modify slab 3.0"
        body = f"""{extra}
compute e all pe/atom
compute sum all reduce sum c_e
compute d all pair equicalc
thermo_style custom step pe c_sum c_d[*] pxx pyy pzz pxy pxz pyz
thermo_modify format float %.17g
dump 1 all custom 1 out.dump id fx fy fz q
dump_modify 1 sort id format float %.17g
run 0
"""
        deck = self.deck(model, body, kspace=kspace, style=style)
        boundary = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
        box = f"boundary {boundary}\nprocessors {processors}\natom_style"
        table = self.run(deck.replace("atom_style", box), ranks=ranks).thermo[-1]
        rows = self.frames("out.dump")[-1]
        pressure = np.zeros((3, 3))
        for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
            pressure[a, b] = pressure[b, a] = table[f"P{'xyz'[a]}{'xyz'[b]}"][-1]
        dipole = np.array([table[f"c_d[{k}]"][-1] for k in (1, 2, 3)])
        return {
            "energy": table["PotEng"][-1],
            "atom energies": table["c_sum"][-1],
            "forces": prism.vector_to_ase(rows[:, 1:4]),
            "stress": prism.tensor2_to_ase(-pressure / BAR_PER_EV_A3),
            "charges": rows[:, 4],
            "dipole": prism.vector_to_ase(dipole[None])[0],
            "steps": table["c_d[4]"][-1],
        }

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
