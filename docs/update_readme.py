"""Put the table of shipped models into README.md, and results of benchmarks into docs/*.md.

python docs/update_readme.py            (or: make docs)
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from equicalc.cli import main as equicalc

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- models: begin -->\n", "<!-- models: end -->"
RESULT = re.compile(r"<!-- begin (\S+) -->\n.*?<!-- end -->", re.S)


def updated(text: str) -> str:
    """Return the README with the table that `equicalc models --markdown` prints now.

    Raises
    ------
    RuntimeError
        If the command fails or prints nothing, so that no page loses its table.
    """
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = equicalc(["models", "--markdown"])
    if code or not output.getvalue().strip():
        raise RuntimeError(f"`equicalc models --markdown` printed no table (exit code {code})")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{output.getvalue()}\n{END}{rest.split(END)[1]}"


def with_results(text: str) -> str:
    """Return a page with the files named in ``<!-- begin FILE -->`` as they are now."""

    def section(match: re.Match[str]) -> str:
        content = (ROOT / match[1]).read_text().strip()
        # the page has its own headings
        content = re.sub(r"^# .*\n+", "", content)
        return f"<!-- begin {match[1]} -->\n\n{content}\n\n<!-- end -->"

    return RESULT.sub(section, text)


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))
    print(f"wrote {README.name}")
    for page in sorted((ROOT / "docs").glob("*.md")):
        page.write_text(with_results(page.read_text()))
        print(f"wrote docs/{page.name}")
