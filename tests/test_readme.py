"""The README says what is."""

import importlib.util
import re
from pathlib import Path

import pytest
from ase.build import bulk

from equicalc.lammps_run import run_deck, write_data
from equicalc.models import shipped

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture
def update():
    """The script docs/update_readme.py as a module."""
    spec = importlib.util.spec_from_file_location("update", ROOT / "docs" / "update_readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_of_models_is_what_the_command_prints(update):
    assert update.updated(README) == README, "the shipped models have changed: run make docs"


def test_the_table_is_not_lost_where_the_command_fails(update, monkeypatch):
    monkeypatch.setattr(update, "equicalc", lambda words: 2)
    with pytest.raises(RuntimeError, match="no table"):
        update.updated(README)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link.split("#")[0]).exists()


@pytest.mark.parametrize("script", sorted(set(re.findall(r"python (\S+\.py)", README))))
def test_commands_name_scripts_that_exist(script):
    assert (ROOT / script).is_file()


shipped_kcl = pytest.mark.skipif("kcl" not in shipped(), reason="the model kcl is not shipped")


@shipped_kcl
def test_python_lines_run(capsys):
    block = re.search(r"```python\n(.*?)```", README, re.S).group(1)
    exec(block, {})
    assert len(capsys.readouterr().out) > 0


@shipped_kcl
@pytest.mark.lammps
def test_lammps_lines_run(tmp_path):
    block = re.search(r"```\n(units metal.*?)```", README, re.S).group(1)
    write_data(tmp_path / "kcl.data", bulk("KCl", "rocksalt", a=6.3, cubic=True), ["K", "Cl"])
    lines = block.replace("pair_style", "read_data kcl.data\npair_style", 1)
    (tmp_path / "in.readme").write_text(lines + "run 0\n")
    table = run_deck(tmp_path / "in.readme").thermo[-1]
    assert table["E_pair"][0] < 0.0
