"""model.pt2: program and weights are those of model.pt, and it says why where it cannot run."""

import json
import zipfile

import numpy as np
import pytest
import torch
from ase.build import bulk

from equicalc import EquiCalculator
from equicalc.core import load_library
from equicalc.deploy import export_network, read_metadata
from equicalc.deploy.compiled import WEIGHTS_MEMBER, write_package
from equicalc.deploy.reading import read_network
from equicalc.errors import ModelFileError
from equicalc.lammps_run import single_point
from tests.comparing import assert_close
from tests.conftest import tiny_network

# the same operators and sums in another order
FLOAT64 = 1e-10
# relative to the largest number of its kind: float32 has 7 digits
FLOAT32 = 1e-5
WHO = {"no charges": ("none", 1), "fixed": ("fixed", 1), "predicted": ("predicted", 2)}


def network_of(kind):
    charge_model, n_layers = WHO[kind]
    return tiny_network(charge_model, n_layers=n_layers)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Return a function that writes (once) the two files of a kind of network."""
    folder, written = tmp_path_factory.mktemp("compiled"), {}

    def files(kind):
        if kind not in written:
            stem = folder / kind.replace(" ", "_")
            written[kind] = [
                export_network(network_of(kind), stem.with_suffix(suffix), name="tiny")
                for suffix in (".pt", ".pt2")
            ]
        return written[kind]

    return files


def crystal():
    """Triclinic, without symmetry, and shorter than two cutoffs along each edge."""
    atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True)
    rng = np.random.default_rng(3)
    atoms.set_cell(atoms.cell[:] @ (np.eye(3) + 0.04 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.rattle(0.15, rng=rng)
    return atoms


def graph(n_atoms, n_edges, seed=0):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(max(n_atoms, 1), (2, n_edges), generator=generator)
    edges[0] = edges[0].sort().values
    directions = torch.randn(n_edges, 3, generator=generator, dtype=torch.float64)
    lengths = 1.5 + 2.4 * torch.rand(n_edges, 1, generator=generator, dtype=torch.float64)
    vectors = lengths * torch.nn.functional.normalize(directions, dim=1)
    return torch.arange(n_atoms) % 2, edges, vectors


def evaluated(path, species, edges, vectors, n_local, dtype="float64", compiled=False):
    core = load_library()
    evaluator = core.Evaluator(core.Model.load(str(path), dtype=dtype, compiled=compiled))
    found = evaluator.forward(species, edges, vectors, n_local)
    weights = torch.linspace(-1, 1, found.variables.numel(), dtype=torch.float64)
    gradient = evaluator.backward(weights.view_as(found.variables))
    return found.energies, found.variables, gradient


@pytest.mark.slow
@pytest.mark.parametrize("kind", WHO)
# none, one atom alone and with its own images, atoms without edges, many
@pytest.mark.parametrize(("n_atoms", "n_edges"), [(0, 0), (1, 0), (1, 5), (9, 4), (40, 700)])
def test_outputs_and_gradients_are_those_of_the_scripted_model(models, kind, n_atoms, n_edges):
    scripted, compiled = models(kind)
    arguments = (*graph(n_atoms, n_edges), n_atoms)
    for dtype, tolerance in (("float64", FLOAT64), ("float32", FLOAT32)):
        expected = evaluated(scripted, *arguments, dtype=dtype)
        found = evaluated(compiled, *arguments, dtype=dtype, compiled=True)
        assert_close(found, expected, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WHO)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_from_the_weights_of_a_package_come_the_numbers_of_the_scripted_model(models, kind, dtype):
    arguments = (*graph(40, 700), 40)
    scripted, packed = (evaluated(path, *arguments, dtype=dtype) for path in models(kind))
    for a, b in zip(packed, scripted, strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_atoms_of_other_ranks_have_no_energies_and_take_part_as_senders(models):
    scripted, compiled = models("fixed")
    species, edges, vectors = graph(9, 60)
    inside = edges[0] < 5
    arguments = (species, edges[:, inside].contiguous(), vectors[inside].contiguous(), 5)
    found = evaluated(compiled, *arguments, compiled=True)
    assert_close(found, evaluated(scripted, *arguments), FLOAT64)


@pytest.mark.slow
@pytest.mark.lammps
@pytest.mark.parametrize(("kind", "ranks"), [("fixed", 1), ("fixed", 2), ("predicted", 2)])
def test_lammps_gets_the_same_results_from_both_files(models, tmp_path, kind, ranks):
    expected, found = (
        single_point(
            crystal(), str(path), ["K", "Cl"], tmp_path, ranks=ranks, kspace="ewald 1.0e-8"
        )
        for path in models(kind)
    )
    assert_close(found, expected, FLOAT64)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WHO)
def test_ase_gets_the_same_properties_from_both_files(models, kind):
    atoms = crystal()
    for dtype, tolerance in (("float64", FLOAT64), ("float32", FLOAT32)):
        found = []
        for path in models(kind):
            atoms.calc = EquiCalculator(path, dtype=dtype)
            values = [atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()]
            if kind != "no charges":
                values.append(atoms.get_charges())
            found.append([np.array(v) for v in values])
        assert_close(*found, tolerance)


@pytest.mark.slow
def test_description_and_attributes_are_those_of_the_scripted_model(models):
    scripted, compiled = models("predicted")
    assert read_metadata(compiled) == read_metadata(scripted)
    core = load_library()
    a, b = (core.Model.load(str(path)).info for path in (scripted, compiled))
    for name in ("name", "elements", "cutoff", "n_layers", "exchange_width", "sigmas"):
        assert getattr(a, name) == getattr(b, name)


def changed(path, target, without=(), **words):
    """Copy a package with other words about its programs, or without some members."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.infolist():
            data = old.read(member)
            if member.filename.endswith(tuple(without)):
                continue
            if member.filename.endswith("_metadata.json"):
                said = json.loads(data)
                said.update({f"equicalc_{k}": v for k, v in words.items() if v is not None})
                for name in (k for k, v in words.items() if v is None):
                    del said[f"equicalc_{name}"]
                data = json.dumps(said).encode()
            new.writestr(member.filename, data)
    return target


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"torch": "1.9.0+cpu"}, "compiled for torch 1.9.0.cpu, and this is"),
        ({"cpu": "AVX1024"}, "compiled for processors with AVX1024, and this is one with"),
        ({"machine": "vax"}, "compiled for processors of the kind vax"),
        ({"device": "cuda"}, "compiled for the device cuda"),
        ({"cutoff": "far"}, "the impossible cutoff 'far'"),
        ({"cutoff": None}, "do not say their 'cutoff'"),
    ],
)
def test_packages_for_something_else_say_what_was_found_and_what_to_type(
    models, tmp_path, words, reason
):
    path = changed(models("fixed")[1], tmp_path / "other.pt2", **words)
    with pytest.raises(ModelFileError, match=reason) as error:
        load_library().Model.load(str(path), compiled=True)
    assert "equicalc export RUN_DIRECTORY -o model.pt2" in str(error.value)


def test_a_missing_compiler_is_named_with_what_to_do(tmp_path, monkeypatch):
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def missing():
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    with pytest.raises(ModelFileError, match=r"found no g\+\+.*apt install g\+\+"):
        export_network(network_of("fixed"), tmp_path / "m.pt2")
    assert not list(tmp_path.iterdir())


def test_networks_that_cannot_be_compiled_are_refused_with_the_line_to_type(tmp_path):
    class Other(type(network_of("fixed"))):
        architecture = "other"

    network = Other(network_of("fixed").config)
    with pytest.raises(ModelFileError, match=r"'other' cannot be compiled.*-o .*m\.pt$"):
        write_package(network, tmp_path / "m.pt2", {})


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_programs_run_where_they_are_asked_for(models, compiled):
    core = load_library()
    model = core.Model.load(str(models("fixed")[1]), compiled=compiled)
    assert core.Evaluator(model).is_direct != compiled


@pytest.mark.slow
def test_weights_are_read_where_programs_cannot_run(models, tmp_path):
    arguments = (*graph(9, 60), 9)
    expected = evaluated(models("fixed")[1], *arguments)
    other = changed(models("fixed")[1], tmp_path / "o.pt2", torch="1.9.0+cpu", cpu="AVX1024")
    for a, b in zip(evaluated(other, *arguments), expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_packages_of_earlier_versions_without_weights_run_their_program(models, tmp_path):
    arguments = (*graph(9, 60), 9)
    old = changed(models("fixed")[1], tmp_path / "old.pt2", without=[WEIGHTS_MEMBER])
    core = load_library()
    evaluator = core.Evaluator(core.Model.load(str(old)))
    assert not evaluator.is_direct
    expected = evaluated(models("fixed")[1], *arguments, compiled=True)
    assert torch.equal(evaluator.forward(*arguments).energies, expected[0])
    with pytest.raises(ModelFileError, match=r"has no weights.*-o model\.pt$"):
        read_network(old)


@pytest.mark.slow
def test_damaged_weights_are_named(models, tmp_path):
    path = changed(models("fixed")[1], tmp_path / "m.pt2", without=[WEIGHTS_MEMBER])
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{folder}/extra/{WEIGHTS_MEMBER}", b"nothing that torch.save wrote")
    with pytest.raises(ModelFileError, match="its weights cannot be read"):
        load_library().Model.load(str(path))
    with pytest.raises(ModelFileError, match="does not fit its description"):
        read_network(path)


@pytest.mark.slow
def test_training_goes_on_from_the_weights_of_a_package(models):
    expected = network_of("predicted").state_dict()
    found = read_network(models("predicted")[1]).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name].double(), expected[name].double()) for name in expected)


def test_scripted_models_have_no_program(tiny_model):
    with pytest.raises(ModelFileError, match=r"no compiled program.*equicalc export"):
        load_library().Model.load(str(tiny_model), compiled=True)
