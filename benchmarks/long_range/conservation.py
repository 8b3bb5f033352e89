"""Constant-energy dynamics: forces from an energy against forces read out directly.

    python -m benchmarks.long_range.conservation

Two networks learn the same DFT forces of KCl with the same number of steps: one whose forces are
the derivative of an energy (with charges, as everywhere in equicalc), one with a vector readout per
atom (degree 1, mean force removed), which is the gradient of nothing. Both then run the same start
at constant energy. The energy followed is kinetic plus the potential energy of the conservative
model at the positions reached. The asymmetry of dF_i/dr_j over an atom and its neighbours says the
same without any dynamics: a derivative of an energy has none. Exit code 1 when the conservative run
drifts by more than 0.05 meV/atom/ps.
"""

from __future__ import annotations

import time

import ase.io
import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet

from benchmarks.long_range.common import (
    DATA,
    calculator_of,
    folder_of,
    markdown_table,
    options_of,
    publish,
    train_model,
)
from equicalc import plots
from equicalc.analysis import linear_drift
from equicalc.data.batch import Batch, collate, make_sample
from equicalc.data.selection import select
from equicalc.data.statistics import rms_force
from equicalc.data.structures import from_atoms
from equicalc.nn import EquiNetwork, NetworkConfig
from equicalc.nn.pseudoscalar import node_features

ELEMENTS = ["K", "Cl"]
# Both networks pass messages twice: the energy's last layer sends scalars, the direct one vectors.
SHAPE = {"cutoff": 5.0, "channels": 16, "l_max": 2, "readout_hidden": 32}
BATCH, LEARNING_RATE = 2, 5e-3
TIMESTEP = 2.0  # fs
LIMIT = 0.05  # meV/atom/ps
TOO_HOT = 5000.0  # K
# In the first part of a run kinetic energy becomes potential energy; drift is measured afterwards.
START_OF_FIT = 0.5  # ps


class DirectForces(torch.nn.Module):
    """Network with a vector per atom: learned vectors times functions of the scalars."""

    def __init__(self, scale: float, mean_neighbours: float):
        super().__init__()
        self.network = EquiNetwork(
            NetworkConfig(
                elements=ELEMENTS, n_layers=3, repulsion=False, charge_model="none", **SHAPE
            )
        )
        zeros = dict.fromkeys(ELEMENTS, 0.0)
        self.network.set_statistics(zeros, 1.0, mean_neighbours)
        channels = SHAPE["channels"]
        self.factors = torch.nn.Sequential(
            torch.nn.Linear(channels, SHAPE["readout_hidden"]),
            torch.nn.SiLU(),
            torch.nn.Linear(SHAPE["readout_hidden"], channels),
        )
        self.scale = scale / np.sqrt(channels)
        self.double()

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return forces [N, 3], eV/angstrom, without a mean in each structure."""
        receiver, sender = batch.edge_index[0], batch.edge_index[1]
        cells = batch.cells.index_select(0, batch.structure.index_select(0, receiver))
        shift = torch.bmm(batch.edge_shifts.unsqueeze(1), cells).squeeze(1)
        positions = batch.positions
        vectors = positions.index_select(0, sender) - positions.index_select(0, receiver) + shift
        dtype = self.network.energy_scale.dtype
        features = node_features(self.network, batch.species, vectors.to(dtype), batch.edge_index)
        forces = torch.einsum("nmc,nc->nm", features[:, 1:4], self.factors(features[:, 0]))
        forces = (self.scale * forces).double()
        mean = torch.zeros(batch.n_structures, 3, dtype=torch.float64)
        mean = mean.index_add(0, batch.structure, forces) / batch.n_atoms[:, None]
        return forces - mean.index_select(0, batch.structure)


class DirectCalculator(Calculator):
    """ASE's calculator of direct forces; there is no energy."""

    implemented_properties = ["forces"]  # noqa: RUF012

    def __init__(self, model: DirectForces):
        super().__init__()
        self.model = model.double()

    def calculate(self, atoms=None, properties=("forces",), system_changes=all_changes) -> None:
        """Evaluate the network."""
        super().calculate(atoms, properties, system_changes)
        sample = make_sample(from_atoms([self.atoms])[0], ELEMENTS, SHAPE["cutoff"])
        with torch.no_grad():
            self.results = {"forces": self.model(sample).numpy()}


def train_direct(training: list[Atoms], epochs: int) -> DirectForces:
    """Train direct forces with the steps and the learning rates of the other network."""
    torch.manual_seed(0)
    structures = from_atoms(training)
    samples = [make_sample(s, ELEMENTS, SHAPE["cutoff"]) for s in structures]
    edges = sum(s.edge_index.shape[1] for s in samples) / sum(map(len, structures))
    model = DirectForces(rms_force(structures), edges).float()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=1e-6)
    steps = epochs * -(-len(samples) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 0.01 * LEARNING_RATE)
    order = np.random.default_rng(0)
    start = time.perf_counter()
    for _ in range(epochs):
        chosen = order.permutation(len(samples))
        for i in range(0, len(chosen), BATCH):
            batch = collate([samples[j] for j in chosen[i : i + BATCH]])
            loss = (model(batch) - batch.forces).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 10.0)
            optimizer.step()
            schedule.step()
    print(f"  trained direct in {time.perf_counter() - start:.0f} s", flush=True)
    return model


def force_error(calculator, frames: list[Atoms]) -> float:
    """Root mean square error of force components, meV/angstrom."""
    errors = []
    for frame in frames:
        atoms = frame.copy()
        atoms.calc = calculator
        errors.append(atoms.get_forces() - frame.get_forces())
    return float(1000.0 * np.sqrt(np.mean(np.square(errors))))


def asymmetry(calculator, atoms: Atoms, step: float = 1e-3) -> float:
    """Norm of J - J^T over that of J = dF/dr of an atom and its six nearest neighbours."""
    atoms = atoms.copy()
    atoms.calc = calculator
    near = np.argsort(atoms.get_distances(0, np.arange(len(atoms)), mic=True))[:7]
    columns = []
    for index in near:
        for axis in range(3):
            ends = []
            for sign in (1.0, -1.0):
                atoms.positions[index, axis] += sign * step
                ends.append(atoms.get_forces()[near].ravel())
                atoms.positions[index, axis] -= sign * step
            columns.append((ends[0] - ends[1]) / (2.0 * step))
    jacobian = np.array(columns)
    return float(np.linalg.norm(jacobian - jacobian.T) / np.linalg.norm(jacobian))


def run_nve(name: str, start: Atoms, calculator, energy_model, steps: int) -> dict:
    """Run at constant energy; kinetic energy, temperature and the model's potential energy."""
    atoms = start.copy()
    atoms.calc = calculator
    probe = start.copy()
    probe.calc = energy_model
    records: list[tuple[float, float, float]] = []
    dynamics = VelocityVerlet(atoms, TIMESTEP * units.fs)
    every = 10
    for step in range(0, steps + 1, every):
        if step:
            dynamics.run(every)
        probe.positions = atoms.positions
        total = (atoms.get_kinetic_energy() + probe.get_potential_energy()) / len(atoms)
        records.append((step * TIMESTEP / 1000.0, 1000.0 * total, atoms.get_temperature()))
        if step % 500 == 0:
            print(f"  {name}: {records[-1][0]:.1f} ps, {records[-1][2]:.0f} K", flush=True)
        if not atoms.get_temperature() < TOO_HOT:
            break
    times, energies, temperatures = np.array(records).T
    return {"time": times, "energy": energies, "temperature": temperatures}


def main() -> int:
    """Run the proof."""
    options = options_of(__doc__)
    epochs, picoseconds = (3, 0.1) if options.quick else (60, 10.0)
    frames = ase.io.read(DATA / "kcl_pbesol_64.xyz", ":")
    kept = {s.source for s in select(from_atoms(frames), max_energy_above_min=0.5)}
    frames = [f for f, s in zip(frames, from_atoms(frames), strict=True) if s.source in kept]
    order = np.random.default_rng(3).permutation(len(frames))
    validation = [frames[i] for i in order[:8]]
    training = [frames[i] for i in order[8 : 20 if options.quick else None]]
    directory = train_model(
        folder_of("conservation"),
        "conservative",
        {
            "model": {"initial_charges": {"K": 0.7, "Cl": -0.7}, "elements": ELEMENTS, **SHAPE},
            "loss": {"energy": 10, "forces": 1},
            "training": {
                "max_epochs": epochs,
                "batch_size": BATCH,
                "learning_rate": LEARNING_RATE,
                "final_learning_rate": 0.01,
                "validate_every": max(epochs // 6, 1),
                "checkpoint_every": epochs,
                "weight_decay": 1e-6,
            },
        },
        training,
        validation,
        options.threads,
    )
    calculators = {
        "derivative of the energy": calculator_of(directory),
        "direct": DirectCalculator(train_direct(training, epochs)),
    }
    energy_model = calculator_of(directory)
    start = bulk("KCl", "rocksalt", a=frames[0].cell.lengths()[0] / 2.0, cubic=True).repeat(2)
    thermal = np.sqrt(units.kB * 1200.0 * start.get_masses())[:, None]
    start.set_momenta(thermal * np.random.default_rng(1).normal(size=(len(start), 3)))
    Stationary(start)
    rattled = start.copy()
    rattled.rattle(0.1, seed=2)
    runs = {}
    for name, calculator in calculators.items():
        runs[name] = run_nve(
            name, start, calculator, energy_model, round(1000 * picoseconds / TIMESTEP)
        )
        runs[name]["error"] = force_error(calculator, validation)
        runs[name]["asymmetry"] = asymmetry(calculator, rattled)
    return report(runs, len(training), epochs, options.quick)


def report(runs: dict, n_training: int, epochs: int, quick: bool) -> int:
    """Write table and picture, and judge."""
    rows, drifts = [], {}
    for name, run in runs.items():
        settled = run["time"] >= min(START_OF_FIT, 0.5 * run["time"][-1])
        times, energies = run["time"][settled], run["energy"][settled]
        drifts[name] = linear_drift(times, energies)
        scatter = np.std(energies - np.polyval(np.polyfit(times, energies, 1), times))
        rows.append(
            [name, f"{run['error']:.1f}", f"{run['asymmetry']:.1e}", f"{drifts[name]:+.3g}",
             f"{scatter:.2g}", f"{run['temperature'][settled].mean():.0f}"]
        )  # fmt: skip
    header = ["forces", "validation error (meV/Å)", "asymmetry of dF/dr", "drift (meV/atom/ps)",
              "scatter about it (meV/atom)", "mean T (K)"]  # fmt: skip
    length = next(iter(runs.values()))["time"][-1]
    text = (
        "# Forces that are a derivative, and forces that are not\n\n"
        f"64 atoms of KCl, {length:g} ps at constant energy, {TIMESTEP:g} fs; two networks, "
        f"messages passed twice ({SHAPE['channels']} channels, l_max {SHAPE['l_max']}), trained on "
        f"{n_training} structures for {epochs} epochs each. The energy is kinetic plus that of the "
        f"conservative model, its drift a line through all but the first {START_OF_FIT:g} ps.\n\n"
        + markdown_table(header, rows)
    )
    publish("conservation", text, draw(runs), quick)
    if quick:
        return 0
    drift = abs(drifts["derivative of the energy"])
    if drift > LIMIT:
        print(f"the conservative run drifts by {drift:.3g} meV/atom/ps")
    return int(drift > LIMIT)


def draw(runs: dict):
    """Total energy and temperature against time."""
    figure, axes = plots.new_figure(1, 2, (9.5, 3.6))
    for number, (name, run) in enumerate(runs.items()):
        style = {"color": plots.COLOURS[number], "linewidth": 1.2}
        axes[0, 0].plot(run["time"], run["energy"] - run["energy"][0], label=name, **style)
        axes[0, 1].plot(run["time"], run["temperature"], **style)
    axes[0, 0].set_ylabel("total energy\n(meV/atom, from the start)")
    axes[0, 1].set_ylabel("temperature (K)")
    for axis in axes[0]:
        axis.set_xlabel("time (ps)")
    axes[0, 0].legend(fontsize=8, frameon=False, title="forces", title_fontsize=8)
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
