"""model.pt2 of networks that other codes trained: the numbers of model.pt, by programs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from equicalc import EquiCalculator
from equicalc.deploy import export_network, read_metadata
from equicalc.deploy.compiled import read_weights
from equicalc.deploy.reading import read_network
from equicalc.interop import import_network
from equicalc.lammps_run import single_point
from equicalc.nn.architectures import build
from equicalc.nn.gated_config import GatedNetworkConfig
from equicalc.nn.mace_config import MaceConfig
from tests.commands.conftest import equicalc
from tests.comparing import assert_close
from tests.deploy.test_compiled import FLOAT32, FLOAT64, crystal, evaluated, graph

REFERENCE = Path(__file__).parents[1] / "reference"
ZBL = {
    "energy": 14.4,
    "length": 0.4685,
    "exponent": 0.23,
    "coefficients": [0.5, 0.3],
    "decays": [0.9, 0.4],
    "order": 6.0,
}


def gated():
    """Irregular multiplicities of both parities, matrices by element, constants, and charges."""
    return GatedNetworkConfig(
        elements=["K", "Cl"],
        cutoff=4.2,
        l_max=2,
        features=["6x0e", "7x0e+3x0o+5x1o+2x1e+2x2e", "5x0e"],
        own=["none", "species"],
        scalars={"e": ["silu", 1.7], "o": ["tanh", 1.6]},
        gates={"e": ["silu", 1.7], "o": ["tanh", 1.6]},
        radial_hidden=[8],
        readout_hidden=[4],
        sender_scale=True,
        biases=True,
        repulsion=ZBL,
        charge_model="predicted",
        charge_weights="environment",
    )


def unusual():
    """What `gated` has not: XPLOR, rotations only, activations and own features of other kinds."""
    return GatedNetworkConfig(
        elements=["K", "Cl"],
        cutoff=4.2,
        l_max=2,
        parity=False,
        features=["4x0e", "5x0e+3x1e+2x2e", "4x0e+17x1e", "3x0e"],
        own=["none", "linear", "none"],
        scalars={"e": ["ssp", 1.3]},
        gates={"e": ["abs", 1.2]},
        cutoff_function="xplor",
        cutoff_parameter=3.5,
        radial_hidden=[8],
        radial_activation="ssp",
    )


def mace():
    """Densities of neighbours, matrices by element for messages and own features, and charges."""
    layers = [
        {"sent": "4x0e", "features": "4x0e+4x1o", "density": True},
        {"sent": "3x0e+4x1o", "features": "4x0e", "correlation": 2, "mix_by_species": True},
    ]
    return MaceConfig(
        elements=["K", "Cl"],
        cutoff=4.2,
        l_max=2,
        channels=4,
        layers=layers,
        radial_hidden=[8],
        repulsion=ZBL,
        charge_model="fixed",
    )


RANDOM = {"gated": gated, "unusual": unusual, "mace": mace}
STORED = {
    "sevennet": ("sevennet_parity.pth", "sevennet"),
    "mace file": ("mace_vectors.model", "mace"),
    "nequip": ("nequip_parity.ckpt", "nequip"),
}
# one of them in the ordinary suite: each takes half a minute to compile
SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in RANDOM if kind != "gated"]
KINDS = ["gated", *SLOW]


def network_of(kind):
    """Return a network of random weights, all of them at work."""
    torch.manual_seed(0)
    network = build(RANDOM[kind]())
    for value in [*network.parameters(), network.energy_scale]:
        if value.is_floating_point():
            value.data = value.data + 0.1 * torch.randn_like(value)
    network.set_reference_energies({"K": -1.0, "Cl": -2.0})
    return network


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Return a function that writes (once) the two files of a kind of network."""
    folder, written = tmp_path_factory.mktemp("compiled_imported"), {}

    def files(kind):
        if kind not in written:
            if kind in RANDOM:
                network = network_of(kind)
            else:
                file, code = STORED[kind]
                network = import_network(code, REFERENCE / file).network
            stem = folder / kind.replace(" ", "_")
            written[kind] = [
                export_network(network, stem.with_suffix(suffix), name="tiny")
                for suffix in (".pt", ".pt2")
            ]
        return written[kind]

    return files


@pytest.mark.parametrize("kind", KINDS)
# none, one atom alone and with its own images, atoms without edges, many
@pytest.mark.parametrize(("n_atoms", "n_edges"), [(0, 0), (1, 0), (1, 5), (9, 4), (40, 700)])
def test_outputs_and_gradients_are_those_of_the_scripted_model(models, kind, n_atoms, n_edges):
    scripted, compiled = models(kind)
    arguments = (*graph(n_atoms, n_edges), n_atoms)
    for dtype, tolerance in (("float64", FLOAT64), ("float32", FLOAT32)):
        expected = evaluated(scripted, *arguments, dtype=dtype)
        assert_close(evaluated(compiled, *arguments, dtype=dtype), expected, tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_atoms_of_one_element_alone_are_evaluated_too(models, kind):
    scripted, compiled = models(kind)
    species, edges, vectors = graph(9, 60)
    arguments = (torch.ones_like(species), edges, vectors, 9)
    assert_close(evaluated(compiled, *arguments), evaluated(scripted, *arguments), FLOAT64)


@pytest.mark.parametrize("kind", KINDS)
def test_atoms_of_other_ranks_take_part_as_senders(models, kind):
    """All atoms have edges, some of them no energies, as with ghosts of a wide halo."""
    compiled = models(kind)[1]
    arguments = graph(9, 60)
    inside = evaluated(compiled, *arguments, 5)
    everything = evaluated(compiled, *arguments, 9)
    assert inside[0].shape == (5,)
    assert_close(inside[:2], [x[:5] for x in everything[:2]], FLOAT64)


@pytest.mark.parametrize(
    "kind", [*KINDS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in STORED)]
)
def test_ase_gets_the_same_properties_from_both_files(models, kind):
    atoms = crystal()
    if kind in STORED:
        atoms.symbols = ["Na" if symbol == "K" else "Cl" for symbol in atoms.symbols]
    for dtype, tolerance in (("float64", FLOAT64), ("float32", FLOAT32)):
        found = []
        for path in models(kind):
            # random functions of the distance are not as smooth as the self-check expects
            atoms.calc = EquiCalculator(path, dtype=dtype, check=kind in STORED)
            values = [atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()]
            if read_metadata(path)["charges"] is not None:
                values.append(atoms.get_charges())
            found.append([np.array(v) for v in values])
        assert_close(*found, tolerance)


def test_predicted_charges_depend_on_the_surroundings(models):
    atoms = crystal()
    atoms.calc = EquiCalculator(models("gated")[1], check=False)
    assert np.ptp(atoms.get_charges()[atoms.symbols == "K"]) > 1e-3


@pytest.mark.lammps
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [1, 2])
def test_lammps_gets_the_same_results_from_both_files(models, tmp_path, kind, ranks):
    kspace = None if kind == "unusual" else "ewald 1.0e-8"
    scripted, compiled = models(kind)
    expected = single_point(crystal(), str(scripted), ["K", "Cl"], tmp_path, kspace=kspace)
    # programs do not exchange features
    words = "float64" if ranks == 1 else "float64 ghosts extended"
    found = single_point(
        crystal(), str(compiled), ["K", "Cl"], tmp_path, ranks=ranks, kspace=kspace, precision=words
    )
    assert_close(found, expected, FLOAT64)


@pytest.mark.parametrize("kind", KINDS)
def test_packages_hold_the_weights_without_the_tables_that_follow_from_them(models, kind):
    path = models(kind)[1]
    expected = network_of(kind).state_dict()
    found = read_network(path).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    tables = [v for name, v in read_weights(path).items() if name.endswith("table.coefficients")]
    assert tables
    assert all(table.numel() == 0 for table in tables)


@pytest.mark.slow
def test_commands_write_packages(tmp_path, capsys):
    source = REFERENCE / "sevennet_rotations.pth"
    first, second = tmp_path / "a.pt2", tmp_path / "b.pt2"
    assert equicalc("import", "sevennet", source, "--elements", "Na", "Cl", "-o", first) == 0
    assert equicalc("export", first, "-o", second) == 0
    assert capsys.readouterr().out.count("float32: energy") == 2
    a, b = (read_metadata(path) for path in (first, second))
    assert a == b
    assert "sevennet_rotations.pth" in a["origin"]
    for x, y in zip(*(evaluated(path, *graph(9, 60), 9) for path in (first, second)), strict=True):
        assert torch.equal(x, y)
