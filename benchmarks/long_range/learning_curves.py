"""Force error against the number of training structures, for degrees 0, 1, 2 and descriptors.

    python -m benchmarks.long_range.learning_curves

NaCl, solid and molten (64 atoms), and a fixed validation set. Networks with features up to degree
0, 1 and 2 whose channels are chosen so that they have about the same number of parameters, and the
invariant descriptor model of `benchmarks.long_range.descriptors`, all with the same steps and the
same Coulomb energy of the same fixed charges. Takes about 20 minutes on one core. With
``--data nacl_crystal`` or ``mgo_crystal`` crystals that hardly move: five structures say it all.
"""

from __future__ import annotations

import dataclasses

import ase.io
import numpy as np

from benchmarks.long_range.common import (
    DATA,
    folder_of,
    markdown_table,
    options_of,
    publish,
    train_model,
)
from benchmarks.long_range.descriptors import DescriptorConfig, force_error, train_descriptors
from equicalc import plots
from equicalc.data.structures import Structure, from_atoms
from equicalc.electrostatics import solve
from equicalc.evaluate import evaluate
from equicalc.nn import EquiNetwork, NetworkConfig
from equicalc.train import load_best

# File, what it is, and charges: Z*/sqrt(eps_inf) of DFT, e
DATASETS = {
    "nacl": (
        "nakcl_7net0_64.xyz",
        "NaCl, solid and molten, 100 to 2200 K, labels of SevenNet-0",
        {"Na": 0.681, "Cl": -0.681},
    ),
    "nacl_crystal": (
        "nacl_pbesol_64.xyz",
        "NaCl, crystal with displacements of 0.03 Å, PBEsol",
        {"Na": 0.681, "Cl": -0.681},
    ),
    "mgo_crystal": (
        "mgo_pbesol_64.xyz",
        "MgO, crystal with displacements of 0.03 Å, PBEsol",
        {"Mg": 1.100, "O": -1.100},
    ),
}
SIGMA = 1.0
SHAPE = {"cutoff": 4.5, "readout_hidden": 32, "charge_model": "fixed", "sigma": SIGMA}
BATCH, LEARNING_RATE = 2, 1e-2
SIZES = (5, 10, 20, 40, 80)
N_VALIDATION = 20
DESCRIPTORS = "descriptors"


def n_parameters(l_max: int, channels: int) -> int:
    """Trained parameters of a network."""
    network = EquiNetwork(
        NetworkConfig(elements=["Na", "Cl"], l_max=l_max, channels=channels, **SHAPE)
    )
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def channels_for(l_max: int, target: int) -> int:
    """Channels with which a network has about `target` parameters."""
    return min(range(4, 129, 2), key=lambda c: abs(n_parameters(l_max, c) - target))


def without_coulomb(structures: list[Structure], charges: dict[str, float]) -> list[Structure]:
    """Structures with energy and forces of the fixed charges taken off."""
    rest = []
    for s in structures:
        coulomb = solve([charges[e] for e in s.symbols], s.positions, s.cell, s.pbc, SIGMA)
        rest.append(
            dataclasses.replace(
                s, energy=s.energy - coulomb.energy, forces=s.forces - coulomb.forces
            )
        )
    return rest


def train_network(l_max: int, channels: int, training, validation, steps: int, options) -> float:
    """Train a network; returns its force error on the validation structures, meV/angstrom."""
    charges = DATASETS[options.data][2]
    epochs = max(round(steps * BATCH / len(training)), 1)
    directory = train_model(
        folder_of("learning_curves"),
        f"{options.data}_l{l_max}_{len(training)}",
        {
            "model": {
                "elements": list(charges), "l_max": l_max, "channels": channels,
                "initial_charges": charges, **SHAPE,
            },
            "loss": {"energy": 10, "forces": 1, "stress": 0},
            "training": {
                "max_epochs": epochs,
                "batch_size": BATCH,
                "learning_rate": LEARNING_RATE,
                "final_learning_rate": 0.01,
                "validate_every": max(epochs // 5, 1),
                "checkpoint_every": epochs,
                "weight_decay": 1e-6,
                "warmup_epochs": 0.02 * epochs,
            },
        },
        training,
        validation,
        options.threads,
    )  # fmt: skip
    return float(evaluate(load_best(directory), validation)["forces_rmse_meV_per_A"])


def main() -> int:
    """Run all trainings; results are written after each size."""
    options = options_of(
        __doc__,
        [
            ("--steps", {"type": int, "default": 2400, "help": "steps of every training"}),
            ("--data", {"default": "nacl", "choices": list(DATASETS)}),
        ],
    )
    file, _, charges = DATASETS[options.data]
    sizes, steps = ((5, 10), 20) if options.quick else (SIZES, options.steps)
    frames = ase.io.read(DATA / file, ":")
    frames = [f for f in frames if set(f.symbols) == set(charges)]
    order = np.random.default_rng(11).permutation(len(frames))
    validation = [frames[i] for i in order[:N_VALIDATION]]
    pool = [frames[i] for i in order[N_VALIDATION:]]
    rms = 1000.0 * np.sqrt(np.mean([np.square(f.get_forces()).mean() for f in validation]))
    target = n_parameters(2, 16)
    widths = {l_max: 16 if l_max == 2 else channels_for(l_max, target) for l_max in (0, 1, 2)}
    labels = {
        l_max: f"l_max {l_max}, {c} channels, {n_parameters(l_max, c)} parameters"
        for l_max, c in widths.items()
    }
    config = DescriptorConfig(list(charges), cutoff=SHAPE["cutoff"])
    errors: dict[str, list[float]] = {label: [] for label in (*labels.values(), DESCRIPTORS)}
    rest = without_coulomb(from_atoms(pool), charges)
    rest_validation = without_coulomb(from_atoms(validation), charges)
    for size in sizes:
        for l_max, label in labels.items():
            errors[label].append(
                train_network(l_max, widths[l_max], pool[:size], validation, steps, options)
            )
        model = train_descriptors(config, rest[:size], steps, BATCH, LEARNING_RATE)
        errors[DESCRIPTORS].append(1000.0 * force_error(model, rest_validation))
        count = sum(p.numel() for p in model.parameters())
        write(errors, list(sizes), steps, rms, count, options)
    return 0


def write(errors: dict, sizes: list[int], steps: int, rms: float, count: int, options) -> None:
    """Write table and picture of what is known."""
    done = len(errors[DESCRIPTORS])
    _, what, charges = DATASETS[options.data]
    named = {
        f"symmetry functions, {count} parameters" if name == DESCRIPTORS else name: values
        for name, values in errors.items()
    }
    rows = [[name, *(f"{value:.2f}" for value in values)] for name, values in named.items()]
    text = (
        "# Force error against training structures\n\n"
        f"{what}, 64 atoms; root mean square error of forces (meV/Å) of "
        f"{N_VALIDATION} validation structures, whose forces have {rms:.1f} meV/Å. {steps} "
        f"steps of {BATCH} structures each, cutoff {SHAPE['cutoff']:g} Å, the same fixed charges "
        f"of ±{max(charges.values()):g} e for all.\n\n"
        + markdown_table(["model", *(f"{size} structures" for size in sizes[:done])], rows)
    )
    name = "learning_curves" + ("" if options.data == "nacl" else f"_{options.data}")
    publish(name, text, draw(named, sizes[:done]), options.quick)


def draw(errors: dict, sizes: list[int]):
    """Errors on logarithmic axes."""
    figure, axes = plots.new_figure(1, 1, (5.6, 4.4))
    axis = axes[0, 0]
    for number, (name, values) in enumerate(errors.items()):
        axis.loglog(
            sizes, values, "o" + plots.LINE_STYLES[number], ms=4, color=plots.COLOURS[number],
            label=name,
        )  # fmt: skip
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    low, high = axis.get_ylim()
    ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50) if low <= t <= high]
    axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axis.set_xlabel("training structures")
    axis.set_ylabel("force error (meV/Å)")
    figure.legend(loc="outside upper center", fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
