"""Proofs are commands that start (they take minutes to hours); pages say what was found."""

import importlib
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "long_range.md").read_text()
PROOFS = re.search(r"for proof in ([\w ]+);", (ROOT / "Makefile").read_text()).group(1).split()


@pytest.mark.parametrize("proof", PROOFS)
def test_proofs_can_be_started(monkeypatch, proof):
    monkeypatch.syspath_prepend(ROOT)
    assert callable(importlib.import_module(f"benchmarks.long_range.{proof}").main)


def test_page_shows_and_names_what_make_bench_long_range_runs():
    assert set(re.findall(r"python -m benchmarks\.long_range\.(\w+)", PAGE)) == set(PROOFS)
    assert set(re.findall(r"begin benchmarks/results/long_range/(\w+)\.md", PAGE)) == set(PROOFS)


def test_page_of_aims_says_what_the_tables_say(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    aims = importlib.import_module("benchmarks.speed.aims")
    assert (aims.RESULTS / "aims.md").read_text().strip() == aims.page()


@pytest.mark.parametrize("name", ["speed", "lammps", "gpus", "long_range"])
def test_pages_show_results_as_they_were_stored(name):
    page = (ROOT / "docs" / f"{name}.md").read_text()
    assert runpy.run_path(str(ROOT / "docs" / "update_readme.py"))["with_results"](page) == page
