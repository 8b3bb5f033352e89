"""What "make sanitize" runs is checked, and what everybody else runs is not."""

import os
from pathlib import Path

import pytest

from equicalc.core import load_library


@pytest.mark.parametrize("mark", [b"__asan_load", b"__ubsan_handle"])
def test_the_core_has_checks_when_the_run_asks_for_them(mark):
    library = Path(str(load_library().__file__)).with_name("libequicalc.so")
    asked = os.environ.get("EQUICALC_SANITIZE") == "1"
    assert (mark in library.read_bytes()) == asked, f"{library} was loaded"
