"""Left- and right-handed quartz: what a pseudoscalar tells apart and an invariant cannot.

    python -m benchmarks.long_range.chirality

Small cells of alpha quartz, P3_121 and P3_221, are rattled, strained and turned at random; two
readouts of the same equivariant network learn their handedness, +1 or -1: a pseudoscalar head
(`equicalc.nn.pseudoscalar`), and the invariant scalars that energies come from. Both then see cells
they do not know, the mirror image of each, and the molecular dynamics of the DFT data (PBE, 300 and
600 K; space group P3_221) with its mirror images. Invariants of mirror images are equal to
rounding, so that half of the answers are wrong whatever was learned. Exit code 1 when the
pseudoscalar is wrong in more than 1 % of the cases, or the invariant tells mirror images apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.spacegroup import crystal
from scipy.spatial.transform import Rotation

from benchmarks.long_range.common import DATA, markdown_table, options_of, publish
from equicalc import plots
from equicalc.data.batch import Batch, collate, make_sample
from equicalc.data.structures import from_atoms
from equicalc.nn import EquiNetwork, NetworkConfig
from equicalc.nn.pseudoscalar import PseudoscalarHead, node_features

ELEMENTS = ["Si", "O"]
CUTOFF = 4.0
RATTLE = 0.15  # rms displacement along each axis in the training, angstrom
# A mirror and some rotation, so that rounding differs, too.
MIRROR = -Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
# Space group, height of Si and of O: the structures are mirror images (a = 4.913, c = 5.405 A).
HANDS = {+1: (154, 2.0 / 3.0, 0.7855), -1: (152, 1.0 / 3.0, 0.2145)}
# Two float64 evaluations of the same number in mirrored coordinates.
ROUNDING = 1e-9
WRONG = 0.01

Readout = Callable[[Batch], torch.Tensor]


def quartz(hand: int, rattle: float, rng: np.random.Generator) -> Atoms:
    """A primitive cell of 9 atoms: strained, displaced by `rattle` (angstrom rms), turned."""
    group, si, o = HANDS[hand]
    atoms = crystal(
        ELEMENTS,
        [(0.4697, 0.0, si), (0.4133, 0.2672, o)],
        spacegroup=group,
        cellpar=[4.913, 4.913, 5.405, 90.0, 90.0, 120.0],
    )
    strain = np.eye(3) + rng.normal(scale=0.01, size=(3, 3))
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.positions += rng.normal(scale=rattle, size=atoms.positions.shape)
    return transformed(atoms, Rotation.random(random_state=rng).as_matrix())


def transformed(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    """A structure with positions and cell turned or mirrored."""
    return Atoms(
        atoms.numbers,
        positions=atoms.positions @ matrix.T,
        cell=atoms.cell.array @ matrix.T,
        pbc=True,
    )


def batch_of(frames: Sequence[Atoms]) -> Batch:
    """One graph of all structures."""
    return collate([make_sample(s, ELEMENTS, CUTOFF) for s in from_atoms(frames)])


def vectors_of(batch: Batch) -> torch.Tensor:
    """Edge vectors [E, 3], angstrom."""
    receiver, sender = batch.edge_index[0], batch.edge_index[1]
    cells = batch.cells.index_select(0, batch.structure.index_select(0, receiver))
    shift = torch.bmm(batch.edge_shifts.unsqueeze(1), cells).squeeze(1)
    return (
        batch.positions.index_select(0, sender) - batch.positions.index_select(0, receiver) + shift
    )


def make_network(seed: int) -> EquiNetwork:
    """A small network in float64."""
    torch.manual_seed(seed)
    network = EquiNetwork(
        NetworkConfig(
            elements=ELEMENTS, cutoff=CUTOFF, channels=8, l_max=2, readout_hidden=16,
            repulsion=False, charge_model="none",
        )
    )  # fmt: skip
    network.set_statistics(dict.fromkeys(ELEMENTS, 0.0), 1.0, 20.0)
    return network


def mean_over_atoms(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean of a value per atom in each structure, [S]."""
    total = torch.zeros(batch.n_structures, dtype=values.dtype)
    return total.index_add(0, batch.structure, values) / batch.n_atoms


def readouts(seed: int) -> dict[str, tuple[Readout, list[torch.nn.Parameter]]]:
    """Both readouts [S] of a batch, each on a network of its own, and their parameters."""
    odd, even = make_network(seed), make_network(seed)
    head = PseudoscalarHead(odd.config.channels).double()

    def pseudoscalar(batch: Batch) -> torch.Tensor:
        features = node_features(odd, batch.species, vectors_of(batch), batch.edge_index)
        return mean_over_atoms(head(features), batch)

    def invariant(batch: Batch) -> torch.Tensor:
        n = batch.species.shape[0]
        energies, _ = even.raw_outputs(batch.species, vectors_of(batch), batch.edge_index, n)
        return mean_over_atoms(energies, batch)

    return {
        "pseudoscalar (0o)": (pseudoscalar, [*odd.parameters(), *head.parameters()]),
        "invariant (0e)": (invariant, list(even.parameters())),
    }


def train(
    readout: Readout, parameters: list, frames, hands: torch.Tensor, epochs: int
) -> tuple[list[float], Readout]:
    """Train on handedness with the logistic loss; returns it per epoch, and the scaled readout."""
    parameters = [p for p in parameters if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    size = 20
    batches = [batch_of(frames[i : i + size]) for i in range(0, len(frames), size)]
    with torch.no_grad():  # outputs of order one from the start
        gain = 1.0 / torch.sqrt(sum(readout(b).square().mean() for b in batches) / len(batches))
    losses = []
    for _ in range(epochs):
        total = 0.0
        for number, batch in enumerate(batches):
            margin = (
                gain * readout(batch) * hands[number * size : number * size + batch.n_structures]
            )
            loss = torch.nn.functional.softplus(-margin).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) / len(batches)
        losses.append(total)
    return losses, lambda batch: gain * readout(batch)


@torch.no_grad()
def judge(readout: Readout, frames: Sequence[Atoms], hands: np.ndarray) -> dict:
    """Part of right answers on structures and their mirror images, and how the two compare."""
    size = 40
    parts = [frames[i : i + size] for i in range(0, len(frames), size)]
    own = torch.cat([readout(batch_of(p)) for p in parts]).numpy()
    mirrored = [[transformed(atoms, MIRROR) for atoms in p] for p in parts]
    image = torch.cat([readout(batch_of(p)) for p in mirrored]).numpy()
    right = 0.5 * (np.mean(own * hands > 0) + np.mean(image * hands < 0))
    scale = np.abs(own).max()
    return {
        "right": float(right),
        "own": own,
        "image": image,
        "even": float(np.abs(own - image).max() / scale),
        "odd": float(np.abs(own + image).max() / scale),
    }


def main() -> int:
    """Run the proof."""
    options = options_of(__doc__)
    n_training, n_test, epochs = (40, 20, 30) if options.quick else (800, 200, 20)
    rng = np.random.default_rng(8)

    def draw_set(n: int, rattle: float) -> tuple[list[Atoms], np.ndarray]:
        hands = np.resize([1, -1], n)
        return [quartz(hand, rattle, rng) for hand in hands], hands

    frames, hands = draw_set(n_training, RATTLE)
    dft = ase.io.read(DATA / "sio2_72.xyz.gz", "::20" if options.quick else "::3")
    tests = {
        "rattled by 0.10 Å": draw_set(n_test, 0.10),
        f"rattled by {RATTLE:.2f} Å": draw_set(n_test, RATTLE),
        "DFT, MD at 300 and 600 K": (dft, np.ones(len(dft))),
    }
    results, losses = {}, {}
    for name, (readout, parameters) in readouts(seed=1).items():
        losses[name], scaled = train(readout, parameters, frames, torch.from_numpy(hands), epochs)
        results[name] = {label: judge(scaled, *test) for label, test in tests.items()}
        print(f"  trained {name}: loss {losses[name][0]:.3f} -> {losses[name][-1]:.3f}", flush=True)
    return report(results, losses, tests, n_training, options.quick)


def report(results: dict, losses: dict, tests: dict, n_training: int, quick: bool) -> int:
    """Write table and picture, and judge."""
    rows = [
        [name, label, str(2 * len(tests[label][1])), f"{100 * r['right']:.1f} %",
         f"{r['even']:.1e}", f"{r['odd']:.1e}"]
        for name, by_test in results.items()
        for label, r in by_test.items()
    ]  # fmt: skip
    text = (
        "# Left or right quartz\n\n"
        f"Two readouts of the same network (8 channels, l_max 2, cutoff {CUTOFF:g} Å), trained on "
        f"the handedness of {n_training} cells of alpha quartz, rattled by {RATTLE:g} Å rms along "
        "each axis; tests are unseen structures and the mirror image of each (turned, too). The "
        "last columns compare the outputs for a structure, f, and for its mirror image, g, "
        "relative to the largest. Training ends at a loss of "
        + ", ".join(f"{loss[-1]:.3f} ({name})" for name, loss in losses.items())
        + "; guessing has 0.693.\n\n"
        + markdown_table(
            ["readout", "test", "structures", "right", "max abs(f - g)", "max abs(f + g)"], rows
        )
    )
    publish("chirality", text, draw(results, losses), quick)
    odd, even = results["pseudoscalar (0o)"], results["invariant (0e)"]
    failures = [f"pseudoscalar: {label}" for label, r in odd.items() if r["right"] < 1 - WRONG]
    failures += [f"invariant: {label}" for label, r in even.items() if r["even"] > ROUNDING]
    for failure in failures:
        print(f"failed: {failure}")
    return int(bool(failures) and not quick)


def draw(results: dict, losses: dict):
    """Loss of both readouts, and the output for a structure against that for its mirror image."""
    figure, axes = plots.new_figure(1, 3, (11.0, 3.7))
    for number, (name, values) in enumerate(losses.items()):
        style = {"color": plots.COLOURS[number], "linestyle": plots.LINE_STYLES[number]}
        axes[0, 0].semilogy(1 + np.arange(len(values)), values, label=name, **style)
    axes[0, 0].axhline(math.log(2.0), color=plots.GREY, linewidth=0.8)
    axes[0, 0].text(1, math.log(2.0) * 1.05, "guessing", fontsize=8)
    axes[0, 0].set_xlabel("epoch")
    axes[0, 0].set_ylabel("loss of the training")
    axes[0, 0].legend(fontsize=8, frameon=False)
    for axis, (name, by_test) in zip(axes[0, 1:], results.items(), strict=True):
        largest = max(np.abs(r["own"]).max() for r in by_test.values())
        axis.set_aspect("equal")
        for number, (label, r) in enumerate(by_test.items()):
            axis.scatter(
                r["own"], r["image"], s=9, alpha=0.6, linewidths=0,
                color=plots.COLOURS[2 + number], label=label,
            )  # fmt: skip
        axis.axhline(0.0, color=plots.GREY, linewidth=0.6)
        axis.axvline(0.0, color=plots.GREY, linewidth=0.6)
        axis.set_xlim(-1.05 * largest, 1.05 * largest)
        axis.set_ylim(-1.05 * largest, 1.05 * largest)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("output for the structure")
        axis.set_ylabel("output for its mirror image")
    axes[0, 1].legend(fontsize=7, frameon=False)
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
