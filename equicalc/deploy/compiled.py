"""Export by torch.export and AOTInductor: compiled programs in place of a scripted network.

A package (``model.pt2``) has one program for each precision. It takes species, edge vectors, edges,
and weights of the outputs, and returns energies, charge variables, and the gradient of their
weighted sum by the edge vectors. It calls the operators of csrc for everything per edge, and code
that was compiled for this network for the rest.

Beside the programs are the weights (``network.pt``, written by ``torch.save``): from them csrc
evaluates equicalc's own architecture, faster than the program and with any version of torch, and
training starts again. Tables of radial functions are part of the programs only.
"""

from __future__ import annotations

import io
import json
import platform
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from equicalc.deploy.metadata import METADATA_MEMBER
from equicalc.errors import ModelFileError
from equicalc.nn.charged_network import ChargedNetwork
from equicalc.nn.gated_network import GatedNetwork
from equicalc.nn.mace_network import MaceNetwork
from equicalc.nn.network import EquiNetwork
from equicalc.nn.tabulated import TabulatedNetwork

SUFFIX = ".pt2"
WEIGHTS_MEMBER = "network.pt"
PRECISIONS = ("float64", "float32")
COMPILED = (EquiNetwork, GatedNetwork, MaceNetwork)
# What packages run on: anything that has AVX2, rather than only the processor that compiled them.
PORTABLE = {"cpp.march": "x86-64-v3", "cpp.simdlen": 256}


class Evaluation(torch.nn.Module):
    """What a program computes."""

    def __init__(self, network: ChargedNetwork):
        super().__init__()
        self.network = network

    def forward(
        self,
        species: torch.Tensor,
        edge_vectors: torch.Tensor,
        edge_index: torch.Tensor,
        energy_weights: torch.Tensor,
        variable_weights: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return energies, variables, and the gradient by the edge vectors of their weighted sum.

        Parameters
        ----------
        species : Tensor [n] int64
            All atoms, also those that receive no edge.
        edge_vectors : Tensor [E, 3]
            From receiver to sender, angstrom, in the precision of the program.
        edge_index : Tensor [2, E] int64
            Receiver (sorted) and sender.
        energy_weights, variable_weights : Tensor [n], [n, K]
            float64.
        """
        vectors = edge_vectors.detach().requires_grad_(True)
        energies, variables = self.network.raw_outputs(
            species, vectors, edge_index, species.shape[0]
        )
        outputs, weights = [energies], [energy_weights]
        if variables.requires_grad:
            outputs.append(variables)
            weights.append(variable_weights.to(variables.dtype))
        (gradient,) = torch.autograd.grad(outputs, [vectors], weights)
        return energies.detach(), variables.detach(), gradient


def write_package(network: ChargedNetwork, path: Path, metadata: dict[str, Any]) -> bytes:
    """Return the content of a package.

    Parameters
    ----------
    network : ChargedNetwork
        In float64; it is changed: call with a copy.
    path : Path
        Where it will be written, for messages.
    metadata : dict
        The description, which goes in as ``equicalc.json``.

    Raises
    ------
    ModelFileError
        The network cannot be compiled, or there is no compiler.
    """
    if type(network) not in COMPILED:
        raise ModelFileError(
            f"'{path}': networks of the architecture '{network.architecture}' cannot be compiled "
            f"yet; write a TorchScript model: -o {path.with_suffix('.pt')}"
        )
    _check_compiler(path)
    from torch.export.pt2_archive._package import package_pt2

    from equicalc.deploy.traced_ops import make_traceable

    network.requires_grad_(False)
    if isinstance(network, TabulatedNetwork):
        network.empty_tables()  # the weights behind them are enough
    weights = {
        name: value.clone() if isinstance(value, torch.Tensor) else value
        for name, value in weights_of(network).items()
    }
    make_traceable(network)
    described = _describe(network, metadata)
    files = {}
    for precision in PRECISIONS:
        evaluation = Evaluation(network.to(getattr(torch, precision)))
        files[precision] = _compile(evaluation, described)
    buffer = io.BytesIO()
    package_pt2(
        buffer, aoti_files=files, extra_files={METADATA_MEMBER: json.dumps(metadata, indent=1)}
    )
    _add_member(buffer, WEIGHTS_MEMBER, weights)
    return buffer.getvalue()


def weights_of(network: ChargedNetwork) -> dict[str, Any]:
    """Return parameters, buffers, numbers and words of a network by their names in it."""
    found: dict[str, Any] = {"architecture": network.architecture, **network.state_dict()}
    for name, part in network.named_modules():
        prefix = f"{name}." if name else ""
        found.update(
            (prefix + key, value.detach()) for key, value in part.named_buffers(recurse=False)
        )
        found.update(
            (prefix + key, value)
            for key, value in vars(part).items()
            if isinstance(value, bool | int | float | str) and not key.startswith("_")
        )
    return found


def read_weights(path: str | Path) -> dict[str, Any]:
    """Return what `weights_of` has put into a package.

    Raises
    ------
    ModelFileError
        The package was written by a version that put nothing there.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(f"/extra/{WEIGHTS_MEMBER}"):
                found: dict[str, Any] = torch.load(
                    io.BytesIO(archive.read(member)), weights_only=True
                )
                return found
    raise ModelFileError(
        f"'{path}' has no weights beside its programs: it was written by an earlier version. Start "
        "from a model.pt of the same network: equicalc export RUN -o model.pt"
    )


def _add_member(archive: io.BytesIO, name: str, weights: dict[str, Any]) -> None:
    """Add a saved dictionary to the extra files of a package."""
    saved = io.BytesIO()
    torch.save(weights, saved)
    with zipfile.ZipFile(archive, "a") as members:
        folder = members.namelist()[0].split("/")[0]
        members.writestr(f"{folder}/extra/{name}", saved.getvalue())


def _check_compiler(path: Path) -> None:
    """Raise ModelFileError when there is no C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise ModelFileError(
            f"'{path}': compiling a network needs a C++ compiler, and found no g++ (CXX names "
            "another one). Install it (Debian: apt install g++), or write a TorchScript model: "
            f"-o {path.with_suffix('.pt')}"
        ) from None


def _has_avx2() -> bool:
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def _describe(network: ChargedNetwork, metadata: dict[str, Any]) -> dict[str, str]:
    """What C++ reads with the programs: words, since numbers and lists are not possible."""
    config = network.config
    dispersion = config.dispersion
    formal = config.formal_charges or dict.fromkeys(config.elements, 0)
    charged = config.has_charges
    values: dict[str, Any] = {
        "format_version": metadata["format_version"],
        "name": metadata["name"],
        "elements": list(config.elements),
        "cutoff": float(config.cutoff),
        "n_layers": config.n_layers,
        "exchange_width": config.exchange_width,
        "charge_model": config.charge_model,
        "sigmas": network.sigmas().tolist() if charged else [],
        "nominal_charges": network.nominal_charges().double().tolist(),
        "formal_charges": [formal[e] for e in config.elements],
        "epsilon_inf": float(network.epsilon_inf),
        "dispersion": f"{dispersion['damping']} {dispersion['functional']}" if dispersion else "",
        "torch": torch.__version__,
        "device": "cpu",
        "machine": platform.machine(),
        "cpu": "AVX2" if _has_avx2() else torch.backends.cpu.get_cpu_capability(),
    }
    return {
        f"equicalc_{name}": " ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in values.items()
    }


def _example(network: ChargedNetwork, precision: torch.dtype) -> tuple[torch.Tensor, ...]:
    """A graph of no special shape, from which programs for all shapes are traced."""
    n_atoms, n_edges = 7, 23
    generator = torch.Generator().manual_seed(0)
    species = torch.arange(n_atoms) % len(network.config.elements)
    edges = torch.randint(n_atoms, (2, n_edges), generator=generator)
    edges[0] = edges[0].sort().values
    vectors = torch.randn(n_edges, 3, dtype=torch.float64, generator=generator)
    vectors = (0.7 * network.config.cutoff * torch.nn.functional.normalize(vectors, dim=1)).to(
        precision
    )
    ones = torch.ones(n_atoms, dtype=torch.float64)
    with torch.no_grad():
        _, variables = network.raw_outputs(species, vectors, edges, n_atoms)
    weights = torch.zeros(variables.shape, dtype=torch.float64)
    return species, vectors, edges, ones, weights


def _compile(evaluation: Evaluation, described: dict[str, str]) -> list[Any]:
    """Return the files of one program."""
    from torch.fx.experimental.proxy_tensor import make_fx

    dtype: Any = evaluation.network.energy_scale.dtype
    arguments = _example(evaluation.network, dtype)
    # the gradient becomes part of the graph here; torch.export itself has no gradients
    traced = make_fx(evaluation, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*arguments)
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free}, {0: free}, {1: free}, {0: free}, {0: free})
    program = torch.export.export(traced, arguments, dynamic_shapes=shapes, strict=False)
    options: dict[str, Any] = {
        "aot_inductor.package": True,
        "aot_inductor.metadata": dict(described),
    }
    if _has_avx2() and platform.machine() == "x86_64":
        options.update(PORTABLE)
    with warnings.catch_warnings():
        # torch's own words to itself, when it copies its descriptions of arguments
        warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
        module = program.module(check_guards=False)
        files = torch._inductor.aot_compile(module, arguments, options=options)
    assert isinstance(files, list)
    return files
