"""Shared by the examples: where things go, how progress is shown, how tables are printed."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
OUTPUT = HERE / "output"


class Story:
    """Numbered headings with the time since the start, so that one sees what takes how long."""

    def __init__(self, name: str, chapters: int):
        self.folder = OUTPUT / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start = time.perf_counter()
        self.chapters = chapters
        self.number = 0

    def chapter(self, text: str) -> None:
        """Print the next heading."""
        self.number += 1
        seconds = time.perf_counter() - self.start
        print(f"\n[{self.number}/{self.chapters}, {seconds:4.0f} s] {text}", flush=True)

    def end(self, pictures: Sequence[Path]) -> None:
        """Say where the pictures are."""
        print(f"\ndone in {time.perf_counter() - self.start:.0f} s; pictures:")
        for path in pictures:
            print(f"  {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def bar(total: int, description: str) -> tqdm:
    """Return a progress bar; in a log file it speaks only every ten seconds."""
    interval = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(total=total, desc=f"  {description}", unit="step", mininterval=interval)


class ThermoProgress:
    """Moves a progress bar along with the thermo lines of a running LAMMPS."""

    def __init__(self, total: int, description: str):
        self.bar = bar(total, description)

    def __call__(self, line: str) -> None:
        if found := re.match(r"\s*(\d+)\s+[-\d.]", line):
            step = int(found[1])
            if self.bar.n < step <= self.bar.total:
                self.bar.update(step - self.bar.n)
        elif line.startswith("Loop time") and self.bar.n >= self.bar.total:
            self.bar.close()


def table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> str:
    """Return a table in plain characters with columns as wide as they need."""
    widths = [max(len(str(row[c])) for row in (header, *rows)) for c in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (str(cell) for cell in cells)
        text = [first.ljust(widths[0])]
        return "  ".join(text + [c.rjust(w) for c, w in zip(others, widths[1:], strict=True)])

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join(
        ([title] if title else []) + [rule, line(header), rule, *map(line, rows), rule]
    )
