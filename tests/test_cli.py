"""The command line itself: help, exit codes, threads, interrupts."""

import os
import signal
import subprocess
import sys
import time

import pytest

from equicalc import cli
from tests.commands.conftest import equicalc


def test_help_does_not_import_torch_or_ase():
    program = "import sys, equicalc.cli as c; c.build_parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert not {"torch", "ase", "numpy", "matplotlib"} & set(done.stdout.split())


@pytest.mark.parametrize(
    "command", ["train", "export", "import", "info", "evaluate", "relax", "md", "models"]
)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        equicalc(command, "--help")
    assert stopped.value.code == 0
    assert f"equicalc {command}" in capsys.readouterr().out


def test_unknown_command_and_missing_argument_exit_with_two(capsys):
    for words in (["fly"], ["relax", "kcl"], []):
        with pytest.raises(SystemExit) as stopped:
            equicalc(*words)
        assert stopped.value.code == cli.EXIT_ERROR
    capsys.readouterr()


def test_errors_of_the_program_itself_are_not_hidden(monkeypatch):
    def broken(path):
        raise ZeroDivisionError

    monkeypatch.setattr("equicalc.commands.models.resolve", broken)
    with pytest.raises(ZeroDivisionError):
        equicalc("info", "kcl")


def test_interrupt_ends_without_traceback(monkeypatch, capsys):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("equicalc.commands.models.resolve", interrupted)
    assert equicalc("info", "kcl") == cli.EXIT_INTERRUPTED
    assert "interrupted" in capsys.readouterr().err


def test_termination_by_a_batch_system_ends_like_an_interrupt(monkeypatch, capsys):
    def terminated(path):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10.0)  # the signal comes before this is over

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("equicalc.commands.models.resolve", terminated)
    assert equicalc("info", "kcl") == cli.EXIT_INTERRUPTED
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_threads_are_set_before_anything_is_loaded(monkeypatch, tiny_model):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(
        "equicalc.commands.simulation.md", lambda options: seen.append(options.threads)
    )
    seen = []
    assert equicalc("md", tiny_model, "x.xyz", "--threads", "3") == 0
    assert seen == [3]
    assert os.environ["OMP_NUM_THREADS"] == "3"
