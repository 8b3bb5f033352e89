"""Put the table of shipped models into README.md.

python docs/update_readme.py            (or: make docs)
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from equicalc.cli import main as equicalc

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- models: begin -->\n", "<!-- models: end -->"


def updated(text: str) -> str:
    """Return the README with the table that `equicalc models --markdown` prints now."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        equicalc(["models", "--markdown"])
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{output.getvalue()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))
    print(f"wrote {README.name}")
