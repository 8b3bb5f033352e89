"""Train your own model: data to model file to forces, with the four commands you would type.

    python examples/04_train.py

Trains the small model of examples/04_train.yaml on 80 structures of NaCl and looks at it. For your
own data, change `data.train` in a copy of that file to your extended-XYZ file.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys

from shared import HERE, Story


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=str(HERE / "04_train.yaml"))
    options = parser.parse_args()
    story = Story("04_train", 4)
    # the example starts afresh each time; `equicalc train` itself never overwrites a run
    run = story.folder / "runs"
    shutil.rmtree(run, ignore_errors=True)

    story.chapter("equicalc train 04_train.yaml")
    equicalc(story, "train", options.config)
    directory = next(run.iterdir())
    story.chapter("equicalc export RUN -o nacl-small.pt")
    equicalc(story, "export", str(directory), "-o", "nacl-small.pt")
    story.chapter("equicalc info nacl-small.pt")
    equicalc(story, "info", "nacl-small.pt")
    story.chapter("equicalc evaluate nacl-small.pt data/nacl_pbesol_64.xyz --plot parity.png")
    data = str(HERE / "data" / "nacl_pbesol_64.xyz")
    equicalc(story, "evaluate", "nacl-small.pt", data, "--plot", "parity.png")
    story.end([directory / "loss.png", story.folder / "parity.png"])


def equicalc(story: Story, *words: str) -> None:
    """Run one command in the output folder of this example; stop with its exit code."""
    code = subprocess.run([sys.executable, "-m", "equicalc.cli", *words], cwd=story.folder)
    if code.returncode:
        raise SystemExit(code.returncode)


if __name__ == "__main__":
    main()
