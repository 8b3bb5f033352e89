"""`equicalc train` and `equicalc export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from equicalc.commands.common import check_writable
from equicalc.commands.importing import print_deviations
from equicalc.errors import ConfigError, DataError


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
    """Write the model of a run directory to one file that ASE and LAMMPS load."""
    check_writable(options.output, (".pt", ".pt2"))
    if not Path(options.directory).is_dir():
        raise DataError(
            f"no run directory '{options.directory}'; 'equicalc train CONFIG.yaml' writes one"
        )
    from equicalc.deploy.deviation import export_checked, some_frames
    from equicalc.deploy.export import describe_run

    network, about = describe_run(options.directory)
    structures = some_frames(about["training"]["files"])
    print_deviations(export_checked(network, options.output, structures, **about))
    print(f"wrote {options.output} ({Path(options.output).stat().st_size / 1e6:.1f} MB)")
