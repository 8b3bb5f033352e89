"""The command line: `equicalc COMMAND ...`.

This module imports nothing heavy, so that help and mistakes answer at once; each command's code
is imported when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from equicalc import __version__
from equicalc.errors import EquicalcError, InterruptedRunError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130

MODEL_HELP = "a model file, or the name of a shipped model ('equicalc models')"
STRUCTURE_HELP = "any file ASE reads; FILE@INDEX picks a frame (the last one by default)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for an error, 130 when interrupted.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after `equicalc`; those of the process by default.
    """
    options = build_parser().parse_args(arguments)
    if getattr(options, "threads", None):
        # read by OpenMP and torch when they are loaded, which happens after this line
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    # threads that wait by spinning stall everything when another program needs a core
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    module, function = options.run.split(":")
    try:
        with _termination_as_interrupt():
            getattr(importlib.import_module(module), function)(options)
        sys.stdout.flush()
    except EquicalcError as error:
        print(f"equicalc {options.command}: {error}", file=sys.stderr)
        return EXIT_INTERRUPTED if isinstance(error, InterruptedRunError) else EXIT_ERROR
    except BrokenPipeError:
        # the reader of a pipe has left, as `head` does; nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except OSError as error:
        print(f"equicalc {options.command}: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(f"\nequicalc {options.command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, with which batch systems end a job, leave files behind as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        # None: one that was not set by Python
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="equicalc",
        description="E(3)-equivariant potentials with learned charges, for ASE and LAMMPS.",
    )
    parser.add_argument("--version", action="version", version=f"equicalc {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_train, _export, _import, _info, _models, _evaluate, _relax, _md, _select):
        add(commands)
    return parser


def _command(commands, name: str, run: str, text: str) -> argparse.ArgumentParser:  # type: ignore[no-untyped-def]
    """Add a sub-command that is carried out by `module:function` of equicalc.commands."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=f"equicalc.commands.{run}")
    return parser


def _device_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("computing")
    group.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    group.add_argument(
        "--dtype",
        choices=("float64", "float32"),
        default="float64",
        help="precision of the network (default: float64)",
    )
    group.add_argument("--threads", type=_positive, metavar="N", help="CPU threads")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive integer")
    return value


def _train(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(commands, "train", "training:train", "train a model from a YAML file")
    parser.add_argument("config", metavar="CONFIG.yaml", help="see examples/train_*.yaml")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    parser.add_argument("--threads", type=_positive, metavar="N", help="CPU threads")


def _export(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(
        commands, "export", "training:export", "write the model of a training run to one file"
    )
    parser.add_argument(
        "source", metavar="RUN", help="run directory written by train, or a model to write anew"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="MODEL.pt",
        help="ending in .pt2: compiled for this torch version (needs g++)",
    )


def _import(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(
        commands, "import", "importing:import_model", "write another code's network as a model"
    )
    kinds = ("sevennet", "nequip", "mace")
    parser.add_argument("kind", metavar="KIND", choices=kinds, help=", ".join(kinds))
    parser.add_argument(
        "source", metavar="SOURCE", help="a model of that code, or a name such as 7net-0"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="MODEL.pt",
        help="default: SOURCE.pt or SOURCE-MODE.pt, here; .pt2 is compiled (needs g++)",
    )
    parser.add_argument(
        "--elements", nargs="+", metavar="EL", help="keep these elements only; default: all"
    )
    parser.add_argument("--head", metavar="HEAD", help="which head of a MACE model with several")
    parser.add_argument(
        "--modal", metavar="MODE", help="which mode of a SevenNet with several, such as PBE"
    )


def _info(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(commands, "info", "models:info", "what a model file says about itself")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--json", action="store_true", help="all metadata as JSON")


def _models(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(commands, "models", "models:models", "the models shipped with equicalc")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--markdown", action="store_true", help="as a Markdown table")


def _evaluate(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(
        commands, "evaluate", "evaluation:evaluate", "errors of a model on labelled structures"
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("data", metavar="DATA.xyz", help="extended XYZ with energies and forces")
    parser.add_argument("--plot", metavar="FILE", help="write a parity plot (png, pdf, svg)")
    parser.add_argument("--json", action="store_true", help="errors as JSON")
    parser.add_argument(
        "--align", action="store_true", help="remove the mean energy difference per atom first"
    )
    parser.add_argument(
        "--within",
        type=float,
        metavar="EV",
        help="leave out structures this far (eV/atom) above the lowest of their composition",
    )
    _device_options(parser)


def _relax(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(
        commands, "relax", "simulation:relax", "relax a structure, and with --cell its cell"
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("structure", metavar="STRUCTURE", help=STRUCTURE_HELP)
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="relaxed structure")
    parser.add_argument("--cell", action="store_true", help="relax the cell too")
    parser.add_argument(
        "--hydrostatic", action="store_true", help="with --cell: change only the volume"
    )
    parser.add_argument("--pressure", type=float, default=0.0, metavar="GPA", help="default: 0")
    parser.add_argument(
        "--fmax", type=float, default=0.005, metavar="EV/A", help="largest force (default: 0.005)"
    )
    parser.add_argument("--steps", type=_positive, default=500, help="step limit (default: 500)")
    parser.add_argument("--optimizer", default="lbfgs", help="lbfgs, fire or bfgs")
    _device_options(parser)


def _md(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(commands, "md", "simulation:md", "molecular dynamics with ASE")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("structure", metavar="STRUCTURE", help=STRUCTURE_HELP)
    parser.add_argument("--ensemble", default="nve", help="nve, nvt or npt (default: nve)")
    parser.add_argument(
        "--temperature", type=float, default=300.0, metavar="K", help="default: 300"
    )
    parser.add_argument("--pressure", type=float, default=0.0, metavar="GPA", help="default: 0")
    parser.add_argument("--timestep", type=float, default=1.0, metavar="FS", help="default: 1")
    parser.add_argument("--steps", type=int, default=1000, help="default: 1000")
    parser.add_argument("--thermostat", default="nose-hoover", help="nose-hoover or langevin")
    parser.add_argument("--barostat", default="isotropic", help="isotropic or full")
    parser.add_argument("--tau-t", type=float, default=100.0, metavar="FS", help="default: 100")
    parser.add_argument("--tau-p", type=float, default=1000.0, metavar="FS", help="default: 1000")
    parser.add_argument("--seed", type=int, default=1, help="of velocities and noise")
    parser.add_argument(
        "--keep-velocities", action="store_true", help="start from the velocities in STRUCTURE"
    )
    parser.add_argument("--supercell", type=_positive, nargs=3, metavar=("A", "B", "C"))
    parser.add_argument("--interval", type=_positive, default=10, help="steps between records")
    parser.add_argument("--output", "-o", metavar="TRAJ", help="trajectory (.xyz or .traj)")
    parser.add_argument("--log", metavar="CSV", help="energies, temperature, volume, pressure")
    parser.add_argument("--plot", metavar="FILE", help="energy, temperature, volume against time")
    _device_options(parser)


def _select(commands) -> None:  # type: ignore[no-untyped-def]
    parser = _command(
        commands,
        "select",
        "selection:select",
        "pick frames of a trajectory on which several models disagree, to be labelled next",
    )
    parser.add_argument("trajectory", metavar="TRAJECTORY", help="any file ASE reads")
    parser.add_argument("model", metavar="MODEL", nargs="+", help=f"two or more: {MODEL_HELP}")
    parser.add_argument(
        "--above",
        type=float,
        required=True,
        metavar="EV/A",
        help="pick frames whose largest deviation of forces is above this",
    )
    parser.add_argument(
        "--below",
        type=float,
        default=float("inf"),
        metavar="EV/A",
        help="and below this: what lies far outside is often not worth a label",
    )
    parser.add_argument(
        "--spacing", type=_positive, default=10, help="frames between picked ones (default: 10)"
    )
    parser.add_argument("--most", type=_positive, metavar="N", help="pick no more than these")
    parser.add_argument("-o", "--output", required=True, metavar="PICKED.xyz")
    parser.add_argument("--json", action="store_true", help="deviations of all frames as JSON")
    _device_options(parser)


if __name__ == "__main__":
    raise SystemExit(main())
