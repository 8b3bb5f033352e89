"""Processes that train together end together."""

import signal
import subprocess
import sys
import time

import pytest

# Each process says who it is and would then go on for ten minutes.
PROGRAM = """
import os, sys, time
from pathlib import Path
from equicalc.train.team import in_team

def work(team, folder):
    Path(folder, f"{team.rank}.tmp").write_text(str(os.getpid()))
    os.replace(Path(folder, f"{team.rank}.tmp"), Path(folder, f"{team.rank}.pid"))
    for _ in range(6000):
        time.sleep(0.1)

if __name__ == "__main__":
    in_team(2, False, work, sys.argv[1])
"""
PATIENCE = 300.0  # s, to start two processes or to see them end


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def is_running(number):
    """Whether a process is there and no zombie, which nobody may be left to bury."""
    try:
        with open(f"/proc/{number}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of the end of a parent")
def test_processes_end_with_the_parent_that_was_killed(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    parent = subprocess.Popen([sys.executable, program, tmp_path])
    try:
        assert wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
        members = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
        assert all(is_running(member) for member in members)
        # Ctrl-C reaches all of them and is left to the parent
        for member in members:
            subprocess.run(["kill", f"-{signal.SIGINT.value}", str(member)], check=True)
        time.sleep(1.0)
        assert all(is_running(member) for member in members)
    finally:
        parent.kill()
        parent.wait()
    assert wait_until(lambda: not any(is_running(member) for member in members))
