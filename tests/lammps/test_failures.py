"""What goes wrong during a run stops it on every rank, with a message that says where and what."""

import json
import os
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from equicalc.deploy import export_network
from equicalc.deploy.scripted import DeployedNetwork
from equicalc.lammps_run import LammpsError, executable, write_data
from equicalc.nn import EquiNetwork
from tests.conftest import tiny_network

MESH = "pppm 1.0e-4"
# A rank that waits for another for ever would need this long to be noticed, seconds.
PATIENCE = 120


def message(bench, deck, atoms, ranks=1):
    with pytest.raises(LammpsError) as caught:
        bench.run(deck, atoms, ranks=ranks)
    return str(caught.value)


def assert_says(text, *words):
    for word in words:
        assert word in text, f"{word!r} is missing in:\n{text}"


# ---- a network that fails ---------------------------------------------------------------------


class Failing(DeployedNetwork):
    """Raises, or returns what is not a number, where an atom has a neighbour closer than 1.5 A."""

    @torch.jit.export
    def raw_outputs(
        self,
        species: torch.Tensor,
        edge_vectors: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        close = edge_vectors.pow(2).sum(1) < 1.5**2
        assert not bool(close.any()), "the network met a pair it cannot bear"
        return self.network.raw_outputs(species, edge_vectors, edge_index, n_local)


class OtherNetwork(EquiNetwork):
    """The same under a name that direct evaluation does not know: it goes through its module."""


@pytest.fixture(scope="module")
def failing_model(tmp_path_factory, tiny_model):
    """`tiny_model` with a network that raises on a rank with a close pair, before any exchange."""
    network = tiny_network("predicted").to(torch.float64).eval()
    network.__class__ = OtherNetwork
    module = Failing(network, "failing", 2)
    module.requires_grad_(False)
    with zipfile.ZipFile(tiny_model) as archive:
        member = next(m for m in archive.namelist() if m.endswith("equicalc.json"))
        described = json.loads(archive.read(member))
        module.format_version = described["format_version"]
    path = tmp_path_factory.mktemp("models") / "failing.pt"
    files = {"equicalc.json": json.dumps(described)}
    torch.jit.script(module).save(str(path), _extra_files=files)
    return path


def test_failing_network_on_one_of_three_ranks_stops_all(bench, failing_model):
    atoms = bench.salt((1, 1, 3))
    # atom 0 lies in the lowest third
    atoms.positions[1] = atoms.positions[0] + [0.0, 0.0, 1.0]
    deck = bench.deck(failing_model, "run 0\n", kspace=MESH)
    deck = deck.replace("read_data", "processors 1 1 3\nread_data")
    start = time.monotonic()
    text = message(bench, deck, atoms, ranks=3)
    assert_says(text, "step 0", "on rank 0", "the forward pass failed")
    assert time.monotonic() - start < PATIENCE


# ---- numbers ----------------------------------------------------------------------------------


def test_overlapping_atoms_are_named_with_rank_step_and_distance(bench, tiny_model):
    atoms = bench.salt((1, 1, 4))
    atoms.positions[25] = atoms.positions[24]  # in the highest quarter, tags 25 and 26
    deck = bench.deck(tiny_model, "run 0\n", kspace=MESH)
    deck = deck.replace("read_data", "processors 1 1 2\nread_data")
    text = message(bench, deck, atoms, ranks=2)
    assert_says(text, "atom 25", "atom 26", "is 0.000000 angstrom away", "step 0", "rank 1")
    assert_says(text, "minimize", "timestep")


def test_atoms_that_collide_are_reported_or_bounce(bench, tiny_model):
    """Two fast atoms meet head on: the run ends with numbers or with a message, never with NaN."""
    atoms = bench.salt((2, 1, 1))
    body = (
        "group one id 1\ngroup two id 2\nvelocity one set 0 3000 0\nvelocity two set 0 -3000 0\n"
        "thermo 1\nthermo_style custom step pe\nfix 1 all nve\ntimestep 0.001\nrun 20\n"
    )
    try:
        table = bench.run(bench.deck(tiny_model, body, kspace=MESH), atoms).thermo[-1]
    except LammpsError as error:
        assert_says(str(error), "ERROR")
    else:
        assert np.isfinite(table["PotEng"]).all()


# ---- a neighbour list of other atoms ----------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    "command", ["write_data again.data", "delete_atoms group last", "pair_coeff * * MODEL K Cl"]
)
def test_list_of_other_atoms_or_another_model_is_refused(bench, tiny_model, command, ranks):
    """Commands between runs sort atoms anew; `pre no` keeps the list of the places before."""
    body = (
        "group last id 16\nvelocity all create 300 7\nvelocity all set 200 130 -150 sum yes\n"
        "neigh_modify delay 100 check no\nfix 1 all nve\ntimestep 0.00025\n"
        f"run 12\n{command}\nrun 12 pre no\n"
    ).replace("MODEL", str(tiny_model))
    deck = bench.deck(tiny_model, body, kspace=MESH)
    text = message(bench, deck, bench.salt((2, 1, 1)), ranks)
    assert_says(text, "ERROR", "belongs to other atoms", "Type 'run' without 'pre no'")


# ---- contacts ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_with_contacts(tmp_path_factory):
    """A model that has seen K and Cl at 2.5 angstrom, and K and K at 4, but no nearer."""
    path = tmp_path_factory.mktemp("models") / "contacts.pt"
    distances = {"K-Cl": 2.5, "K-K": 4.0}
    network = tiny_network("predicted")
    return Path(export_network(network, path, training={"shortest_distances": distances}))


def salt_with_contact(bench):
    """Rattled salt with atoms 25 (K) and 26 (Cl) at 2 angstrom, in the highest quarter."""
    atoms = bench.salt((1, 1, 4), rattle=0.05)
    axis = atoms.positions[25] - atoms.positions[24]
    atoms.positions[25] = atoms.positions[24] + 2.0 * axis / np.linalg.norm(axis)
    return atoms


def contact_deck(bench, model, style):
    deck = bench.deck(model, "fix 1 all nve\ntimestep 0.0001\nrun 2\n", kspace=MESH, style=style)
    return deck.replace("read_data", "processors 1 1 2\nread_data")


@pytest.mark.parametrize("ranks", [1, 2])
def test_contact_closer_than_the_training_data_is_warned_about_once(
    bench, model_with_contacts, ranks
):
    deck = contact_deck(bench, model_with_contacts, "")
    if ranks == 1:
        deck = deck.replace("processors 1 1 2\n", "")
    log = bench.run(deck, salt_with_contact(bench), ranks).log
    assert log.count("WARNING: pair_style equicalc") == 1
    assert_says(log, f"at step 0 on rank {ranks - 1} atoms", "are 2.00 angstrom apart")
    assert_says(log, "25 (K)", "26 (Cl)", "never less than 2.50", "contacts stop")


def test_contact_stops_when_asked_to(bench, model_with_contacts):
    deck = contact_deck(bench, model_with_contacts, "contacts stop")
    text = message(bench, deck, salt_with_contact(bench), 2)
    assert_says(text, "ERROR", "at step 0 on rank 1", "25 (K)", "26 (Cl)", "timestep")


def test_contact_is_not_looked_at_when_told_so(bench, model_with_contacts):
    deck = contact_deck(bench, model_with_contacts, "contacts ignore")
    assert "angstrom apart" not in bench.run(deck, salt_with_contact(bench), 2).log


def test_ordinary_crystal_has_no_contact(bench, model_with_contacts):
    deck = contact_deck(bench, model_with_contacts, "contacts stop")
    atoms = bench.salt((1, 1, 4), rattle=0.05)
    assert "angstrom apart" not in bench.run(deck, atoms, 2).log


# ---- the mesh and the box ---------------------------------------------------------------------


def test_box_that_outgrows_its_mesh_stops_the_run(bench, tiny_model):
    body = "fix grow all deform 1 z scale 2.0 remap x\nrun 20\n"
    text = message(bench, bench.deck(tiny_model, body, kspace=MESH), bench.salt((1, 1, 1)), 2)
    assert_says(text, "edge c of the box", "kspace_style pppm", "Split the run", "at step")


def test_split_run_chooses_a_new_mesh(bench, tiny_model):
    body = "fix grow all deform 1 z scale 1.4 remap x\nrun 5\nrun 5\n"
    found = bench.run(bench.deck(tiny_model, body, kspace=MESH), bench.salt((1, 1, 1)), 2)
    assert len(found.thermo) == 2


# ---- kills ------------------------------------------------------------------------------------

DYNAMICS = (
    "fix 1 all nve\ntimestep 0.00025\nthermo_style custom step etotal\n"
    "thermo_modify format float %.15g flush yes\nthermo 5\n"
)


def ranks_of(parent: int) -> list[int]:
    """Process numbers of the `lmp` processes below a process."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "stat").read_text().rsplit(")", 1)
        except OSError:
            continue
        below = int(words[1].split()[1])
        if below == parent:
            mine = [int(folder.name)] if "(lmp" in words[0] else []
            found += mine + ranks_of(int(folder.name))
    return found


def printed_energies(log: Path) -> dict[int, float]:
    """Total energy of each step in the thermo lines of a log, however it ended."""
    rows = [line.split() for line in log.read_text().splitlines()]
    return {
        int(row[0]): float(row[1])
        for row in rows
        if len(row) == 2 and row[0].isdigit() and row[1].lstrip("-")[:1].isdigit()
    }


def continued(bench, model, restart):
    """Total energies of ten steps from a restart file, by step."""
    deck = bench.deck(model, DYNAMICS + "run 10\n", kspace=MESH)
    deck = deck.replace("atom_style charge\n", "").replace("atom_modify map yes\n", "")
    table = bench.run(deck.replace("read_data structure.data", f"read_restart {restart}")).thermo
    return dict(zip(table[-1]["Step"].astype(int), table[-1]["TotEng"], strict=True))


@pytest.mark.parametrize("kind", ["kill -9 of one rank", "wall-clock limit"])
def test_restart_files_survive(bench, tiny_model, kind):
    write_data(
        bench.directory / "structure.data", bench.salt((2, 1, 1), rattle=0.05), bench.elements
    )
    body = "velocity all create 300 7\n" + DYNAMICS
    body += "restart 5 one.restart two.restart\nrun 1000000\n"
    if kind == "wall-clock limit":
        body = "timer timeout 0:00:03 every 5\n" + body
    (bench.directory / "in.deck").write_text(bench.deck(tiny_model, body, kspace=MESH))
    words = [executable("mpirun"), "-np", "2", executable("lmp"), "-in", "in.deck"]
    output = bench.directory / "killed.log"
    with output.open("w") as log:
        process = subprocess.Popen(
            words, cwd=bench.directory, stdout=log, stderr=log, start_new_session=True
        )
        try:
            if kind == "kill -9 of one rank":
                deadline = time.monotonic() + PATIENCE
                while len(printed_energies(output)) < 5:
                    assert time.monotonic() < deadline, output.read_text()
                    time.sleep(0.05)
                os.kill(ranks_of(process.pid)[-1], signal.SIGKILL)
            process.wait(PATIENCE)  # the other rank does not wait for ever
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    printed = printed_energies(output)
    usable = 0
    for name in ("one.restart", "two.restart"):
        try:
            energies = continued(bench, tiny_model, name)
        except LammpsError:
            continue  # the kill came while it was written: for this there are two in turn
        usable += 1
        shared = sorted(energies.keys() & printed.keys())
        assert shared or kind.startswith("kill")  # the last lines may not have been printed
        # the same positions and velocities, summed by one rank instead of two
        assert all(abs(energies[step] - printed[step]) < 1e-8 for step in shared)
    assert usable >= 1
