"""What was aimed at and what was found: ``python -m benchmarks.speed.aims``.

Reads the tables of benchmarks/results/speed and benchmarks/results/lammps, so that this page says
what they say; measures nothing itself. Ranges are over all rows of a kind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.speed.common import RESULTS, markdown_table, write_text

LAMMPS = RESULTS.parent / "lammps"
Rows = list[dict[str, str]]


def rows(text: str) -> Rows:
    """Return the rows of all tables of a page, cells by the names of their columns."""
    found: Rows = []
    for table in re.findall(r"(?:^\|.*\|\n?)+", text, re.M):
        lines = [line.strip("| ").split("|") for line in table.splitlines()]
        head, _, *body = [[cell.strip() for cell in line] for line in lines]
        # a last cell that is empty goes with the frame of the table
        found += [dict(zip(head, cells, strict=False)) for cells in body]
    return found


def numbers(table: Rows, column: str, *wanted: str) -> list[float]:
    """Return the first number of each cell of a column, of rows that have all wanted cells.

    Raises
    ------
    ValueError
        If there is none: the page or the aim has changed.
    """
    cells = [row.get(column, "") for row in table if set(wanted) <= set(row.values())]
    found = [float(match[0]) for cell in cells if (match := re.search(r"\d+(\.\d+)?", cell))]
    if not found:
        raise ValueError(f"found no numbers in the column {column!r} of rows with {wanted}")
    return found


@dataclass
class Aim:
    """One line: what was aimed at, what was found, which of the numbers reach it."""

    aim: str
    least: float | None  # or
    most: float | None
    found: list[float]
    unit: str

    def line(self) -> list[str]:
        """Return the cells of the line."""
        low, high = f"{min(self.found):g}", f"{max(self.found):g}"
        reached = [
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            for value in self.found
        ]
        said = "yes" if all(reached) else f"{sum(reached)} of {len(reached)} rows"
        text = low if low == high else f"{low} to {high}"
        return [self.aim, f"{text} {self.unit}".strip(), said]


def at_least(aim: str, least: float, found: list[float], unit: str = "times") -> Aim:
    """Return an aim from below."""
    return Aim(aim, least, None, found, unit)


def at_most(aim: str, most: float, found: list[float], unit: str) -> Aim:
    """Return an aim from above."""
    return Aim(aim, None, most, found, unit)


def beside_others() -> list[Aim]:
    """Return what the page of other codes says, on one thread and on two."""
    text = (RESULTS / "peers.md").read_text()
    one, two = (rows(part) for part in re.split(r"^## \d threads?$", text, flags=re.M)[1:])
    aims = []
    for name, other, least in (
        ("SevenNet-0", "`sevenn`, aim 30", 15.0),
        ("MACE 128x0e+128x1o", "`mace`, float32", 10.0),
        ("NequIP 64 channels, l_max 1", "compiled by `nequip`, aim 10", 5.0),
    ):
        for table, threads in ((one, "one thread"), (two, "two threads")):
            found = numbers(table, "faster by", f"{name} in equicalc", "float32")
            aims.append(
                at_least(f"{name}: {least:g} times faster than {other}; {threads}", least, found)
            )
    found = numbers(one, "faster by", "MACE 128x0e+128x1o in equicalc, float64")
    aims.append(
        at_least("the same MACE: 2 times faster than symmetrix, float64; one thread", 2.0, found)
    )
    added = [
        float(row["memory (MB)"].split("+")[1].rstrip(")"))
        for name in ("sevenn", "equicalc")
        for row in one
        if {f"SevenNet-0 in {name}", "NaCl-512"} <= set(row.values())
    ]
    share = [round(100 * added[1] / added[0], 1)]
    aims.append(
        at_most(
            "SevenNet-0: memory of an evaluation, of that of `sevenn`, 10 %; 512 atoms",
            10.0,
            share,
            "%",
        )
    )
    return aims


def own_networks() -> list[Aim]:
    """Return what the page of our own networks and that of training say."""
    page = rows((RESULTS / "network.md").read_text())
    default = "default (2 layers, l_max 2)"
    single = [row for row in page if row.get("threads") == "1"]
    small = [row for row in page if row.get("atoms") == "64"]
    gains = [row for row in page if row.get("atoms") in ("512", "1728")]
    training = rows((RESULTS / "training.md").read_text())
    return [
        at_most(
            "the default network: 20 µs per atom, aim 10; one thread",
            20.0, numbers(single, "network (quartiles)", default, "float32"), "µs",
        ),
        at_least(
            "a second thread, from 512 atoms on: 1.85",
            1.85, numbers(gains, "gain (quartiles)"),
        ),
        at_least(
            "35 % of the peak; whole networks of two layers, float32",
            35.0, numbers(single, "of the peak", "float32"), "%",
        ),
        at_most(
            "ASE beyond network and lists, 64 atoms: 0.2 ms; the default network",
            0.2, numbers(small, "ASE beyond these", default), "ms",
        ),
        at_least(
            "training: 3 times faster than with e3nn modules",
            3.0, numbers(training, "equicalc is faster by", "e3nn modules"),
        ),
    ]  # fmt: skip


def convolutions() -> list[Aim]:
    """Return what the page of the convolution of imported networks says, everything counted."""
    lines = [
        line for line in (RESULTS / "kernels.md").read_text().splitlines() if "| float32 |" in line
    ]
    aims = []
    for layers, chosen in (("l_max 2", True), ("l_max 1 and 3", False)):
        mine = [line for line in lines if ("| SevenNet-0 |" in line) == chosen]
        # forward, its coupling alone, backward, its coupling alone
        shares = [[float(share) for share in re.findall(r"\((\d+) %\)", line)] for line in mine]
        for column, way in ((0, "forward"), (2, "backward")):
            text = f"35 % of the peak in the convolution, {layers}, float32; {way}"
            aims.append(at_least(text, 35.0, [row[column] for row in shares], "%"))
    return aims


def in_lammps() -> list[Aim]:
    """Return what the page of the pair style says."""
    text = (LAMMPS / "speed.md").read_text()
    strong = text.split("## Strong scaling")[1].split("## Weak scaling")[0]
    gains = [float(gain) for gain in re.findall(r"2 ranks ([\d.]+)", strong)]
    beside = numbers(rows(text), "pair time / bare")
    beyond = [round(100 * (ratio - 1)) for ratio in beside]
    return [
        at_least("LAMMPS, two ranks and 4096 atoms: 1.85", 1.85, gains),
        at_most("LAMMPS, the pair style beyond the bare network: 5 %", 5.0, beyond, "%"),
    ]


def page() -> str:
    """Return the page."""
    aims = [*beside_others(), *own_networks(), *convolutions(), *in_lammps()]
    return markdown_table(["aim", "found", "reached"], [aim.line() for aim in aims])


def main() -> None:
    """Write the page."""
    print(write_text("aims", page()))


if __name__ == "__main__":
    main()
