"""The decks of docs/lammps.md run, and what its tables name exists."""

import re
from pathlib import Path

import pytest
from ase.build import bulk

from equicalc.lammps_run import run_deck, write_data
from equicalc.models import shipped
from tests.conftest import export_committee

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "lammps.md").read_text()
DECKS = re.findall(r"```\n(units.*?)```", PAGE, re.S)


@pytest.mark.lammps
@pytest.mark.skipif("kcl" not in shipped(), reason="the model kcl is not shipped")
@pytest.mark.parametrize("deck", DECKS, ids=lambda deck: deck.split("pair_style")[1].split("\n")[0])
def test_decks_run(tmp_path, deck):
    atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True) * (2, 2, 2)
    write_data(tmp_path / "structure.data", atoms, ["K", "Cl"])
    models = export_committee(tmp_path, "predicted")
    deck = deck.replace("a.pt b.pt c.pt", " ".join(map(str, models)))
    (tmp_path / "in.deck").write_text(re.sub(r"(run +)\d+", r"\g<1>10", deck))
    run = run_deck(tmp_path / "in.deck")
    assert run.thermo[-1]["Step"][-1] in (0, 10)


def test_page_has_the_decks_it_should():
    assert len(DECKS) == 3


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http|#)([^)#]+)", PAGE))) or ["."])
def test_links_lead_somewhere(link):
    assert (ROOT / "docs" / link).exists()


@pytest.mark.parametrize("anchor", sorted(set(re.findall(r"\(#([^)]+)\)", PAGE))))
def test_anchors_lead_somewhere(anchor):
    headings = [h.strip().lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", PAGE, re.M)]
    assert anchor in headings


def test_usage_of_the_kspace_style_is_that_of_its_message():
    source = (ROOT / "lammps_plugin" / "kspace_equicalc.cpp").read_text()
    usage = re.search(r'kUsage =\s*"(.*?)";', source, re.S).group(1)
    assert f"```\n{usage}\n```" in PAGE


def test_options_of_the_page_are_those_of_the_style():
    source = (ROOT / "lammps_plugin" / "style_options.cpp").read_text()
    known = set(re.findall(r"\[(\w+) ", re.search(r"kUsage =(.*?);", source, re.S).group(1)))
    table = PAGE.split("| option |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.M)) == known
