"""The README says what is."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_table_of_models_is_what_the_command_prints():
    spec = importlib.util.spec_from_file_location("update", ROOT / "docs" / "update_readme.py")
    update = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(update)
    assert update.updated(README) == README, "the shipped models have changed: run make docs"


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize("script", sorted(set(re.findall(r"python (\S+\.py)", README))))
def test_commands_name_scripts_that_exist(script):
    assert (ROOT / script).is_file()
