"""Model files of imported networks."""

from collections.abc import Callable
from pathlib import Path

import pytest

REFERENCE = Path(__file__).resolve().parent.parent / "reference"


@pytest.fixture(scope="session")
def imported_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Function from a variant of tests/reference/make_sevennet.py to its model file."""
    from equicalc.deploy import export_network
    from equicalc.interop.sevennet import import_sevennet

    written: dict[str, Path] = {}

    def path(name: str) -> Path:
        if name not in written:
            found = import_sevennet(REFERENCE / f"sevennet_{name}.pth")
            target = tmp_path_factory.mktemp("imported") / f"{name}.pt"
            written[name] = Path(export_network(found.network, target, **found.about))
        return written[name]

    return path
