"""Shared by the benchmarks of speed: where results go, medians, tables, the machine."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equicalc.core import load_library

BENCHMARKS = Path(__file__).resolve().parent.parent
RESULTS = BENCHMARKS / "results" / "speed"
OUTPUT = BENCHMARKS / "output" / "speed"


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile."""
    low, middle, high = np.percentile(values, [25.0, 50.0, 75.0])
    return float(low), float(middle), float(high)


def processor() -> str:
    """Return the name of the processor and the vector instructions that kernels use."""
    words = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    lines = dict(line.split(":", 1) for line in words.splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in lines.items()}
    name = named.get("model name", platform.processor() or platform.machine())
    return f"{name} ({load_library().instructions()})"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write_json(name: str, content: Any, folder: Path = RESULTS) -> Path:
    """Write results as JSON and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def write_text(name: str, text: str, folder: Path = RESULTS) -> Path:
    """Write a page in markdown and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.md"
    path.write_text(text.rstrip() + "\n")
    return path
