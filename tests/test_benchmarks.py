"""Every proof of docs/long_range.md is a command that starts; the numbers take minutes to hours."""

import importlib
import re
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
