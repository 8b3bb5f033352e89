"""`equicalc train` and `equicalc export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from equicalc.commands.common import check_writable, naming
from equicalc.commands.importing import print_deviations
from equicalc.errors import ConfigError, DataError
from equicalc.models import resolve, shipped


def train(options: argparse.Namespace) -> None:
    """Train from a YAML file and say what to type next."""
    if not Path(options.config).is_file():
        raise ConfigError(f"no configuration file '{options.config}'; see examples/train_*.yaml")
    import torch

    from equicalc.train import run

    if options.threads:
        torch.set_num_threads(options.threads)
    directory = run(options.config, resume=options.resume)
    print(f"trained: {directory}\nnext:    equicalc export {directory} -o model.pt")


def export(options: argparse.Namespace) -> None:
    """Write the model of a run directory, or of another model file, to one file."""
    check_writable(options.output, (".pt", ".pt2"))
    source = Path(options.source)
    if not source.is_dir() and not source.is_file() and str(source) not in shipped():
        raise DataError(
            f"no run directory '{source}'; 'equicalc train CONFIG.yaml' writes one. Model files "
            f"and shipped models ({', '.join(shipped())}) can be exported too"
        )
    from equicalc.deploy.deviation import common_structures, export_checked, some_frames
    from equicalc.deploy.export import describe_run
    from equicalc.deploy.reading import describe_model

    describe = describe_run if source.is_dir() else describe_model
    network, about = describe(source if source.is_dir() else resolve(source))
    structures = some_frames(about["training"].get("files", []))
    structures = structures or common_structures(network.config.elements)
    with naming(options.output):
        deviations = export_checked(network, options.output, structures, **about)
    print_deviations(deviations)
    print(f"wrote {options.output} ({Path(options.output).stat().st_size / 1e6:.1f} MB)")
