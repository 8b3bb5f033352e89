"""Writing model files: script the network, describe it, check it, replace the target atomically."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import equicalc
from equicalc.deploy.compiled import SUFFIX, write_package
from equicalc.deploy.metadata import FORMAT_VERSION, METADATA_MEMBER
from equicalc.deploy.scripted import script
from equicalc.deploy.self_check import reference_properties, self_check_structure
from equicalc.nn.charged_network import ChargedNetwork


def export_network(
    network: ChargedNetwork,
    path: str | Path,
    *,
    name: str | None = None,
    level_of_theory: str = "not stated",
    training: dict[str, Any] | None = None,
    origin: str = "trained by equicalc",
    training_dtype: str = "float32",
    authors: Sequence[str] = (),
    licence: str = "not stated",
    citation: str = "",
) -> Path:
    """Write a network as one model file for ASE and LAMMPS.

    Parameters
    ----------
    network : ChargedNetwork
        Trained network; it is left untouched.
    path : str or Path
        Target; replaced only after the new file is complete on disk. With the ending ``.pt2`` the
        network is compiled by AOTInductor, for this version of torch; otherwise it is TorchScript.
    name : str, optional
        Name in the metadata; the file's stem by default.
    level_of_theory, licence, citation, authors
        What users need to know about the data and may do with the model.
    training : dict, optional
        ``{"data": ..., "sha256": ..., "errors": {...}}``.
    origin : str
        Where the weights come from.
    training_dtype : str
        Precision of the training; weights are stored in float64, in which they are exact.

    Returns
    -------
    Path
        The file written.
    """
    path = Path(path)
    name = name or path.stem
    config = network.config
    copy = reference_copy(network)
    reference = dict(zip(config.elements, copy.reference_energies().tolist(), strict=True))
    metadata = {
        "format_version": FORMAT_VERSION,
        "equicalc_version": equicalc.__version__,
        "torch_version": torch.__version__,
        "name": name,
        "elements": list(config.elements),
        "cutoff": config.cutoff,
        "n_layers": config.n_layers,
        "exchange_width": config.exchange_width,
        "training_dtype": training_dtype,
        "units": {"energy": "eV", "length": "angstrom", "charge": "e"},
        "origin": origin,
        "charges": _describe_charges(copy),
        "dispersion": config.dispersion,
        "reference_energies": reference,
        "level_of_theory": level_of_theory,
        "training": training or {},
        "authors": list(authors),
        "licence": licence,
        "citation": citation,
        "architecture": copy.architecture,
        "network": config.to_dict(),
        "self_check": reference_properties(copy, self_check_structure(config)),
    }
    if path.suffix == SUFFIX:
        write_atomically(path, write_package(copy, path, metadata))
        return path
    buffer = io.BytesIO()
    torch.jit.save(
        script(copy, name, FORMAT_VERSION),
        buffer,
        _extra_files={METADATA_MEMBER: json.dumps(metadata, indent=1)},
    )
    write_atomically(path, buffer.getvalue())
    return path


def reference_copy(network: ChargedNetwork) -> ChargedNetwork:
    """Return a float64 copy that goes through torch expressions, the oracle of the operators."""
    of_config: Any = type(network)
    copy: ChargedNetwork = of_config(network.config)
    copy.load_state_dict(network.state_dict())
    copy.set_fused(False)
    return copy.to(torch.float64)


def _describe_charges(network: ChargedNetwork) -> dict[str, Any] | None:
    """Charge model, widths and nominal charges per element, and the screening of the response."""
    config = network.config
    if not config.has_charges:
        return None

    def per_element(values: torch.Tensor) -> dict[str, float]:
        return dict(zip(config.elements, values.tolist(), strict=True))

    return {
        "model": config.charge_model,
        "constraint": "total_charge",
        "sigma": per_element(network.sigmas()),
        "nominal": per_element(network.nominal_charges()),
        "formal": config.formal_charges,
        "epsilon_inf": float(network.epsilon_inf),
    }


def export_run(run: str | Path, path: str | Path) -> Path:
    """Write the best network of a training run as a model file.

    Parameters
    ----------
    run : str or Path
        Run directory of `equicalc train`; reads ``best.pt`` and, for the error table,
        ``metrics.json``.
    path : str or Path
        Target; replaced only after the new file is complete on disk.

    Raises
    ------
    DataError
        The directory has no ``best.pt``, or it is damaged.
    """
    network, about = describe_run(run)
    return export_network(network, path, **about)


def describe_run(run: str | Path) -> tuple[ChargedNetwork, dict[str, Any]]:
    """Return the best network of a training run and the arguments of `export_network` about it.

    Raises
    ------
    DataError
        The directory has no ``best.pt``, or it is damaged.
    """
    from equicalc.train import checkpoint, load_best

    run = Path(run)
    network = load_best(run).network
    content = checkpoint.load(run / "best.pt", checkpoint.WEIGHTS_KIND)
    about, data = content["about"], content["data"]
    metrics_file = run / "metrics.json"
    metrics = json.loads(metrics_file.read_text()) if metrics_file.is_file() else {}
    errors = {part: metrics[part] for part in ("training", "validation") if part in metrics}
    return network, {
        "name": about["name"],
        "level_of_theory": about["level_of_theory"] or "not stated",
        "training": {
            "data": about["data"] or ", ".join(data["files"]),
            "files": data["files"],
            "sha256": data["sha256"],
            "n_training": data["n_training"],
            "n_validation": data["n_validation"],
            # runs made before it was recorded have none: their models warn of no close contacts
            "shortest_distances": data.get("shortest_distances", {}),
            "epoch": content["epoch"],
            "errors": errors or {"validation": content["validation"]},
        },
        "training_dtype": content["training_dtype"],
        "authors": about["authors"],
        "licence": about["licence"] or "not stated",
        "citation": about["citation"] or "",
    }


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that the target is either the old or the complete new one.

    Raises
    ------
    OSError
        The directory is missing or not writable, or the disk is full; the old file is intact.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        # which file, and how large
        reason = f"{error.strerror}: '{path}' needs {len(data) / 1e6:.1f} MB"
        raise type(error)(error.errno, reason) from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
