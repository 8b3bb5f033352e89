"""Pictures are written whole or not at all, and show what they were given."""

import numpy as np
import pytest
from PIL import Image

from equicalc import plots
from equicalc.errors import DataError


def series(n=20):
    time = np.linspace(0, 1, n)
    return {
        "time_ps": time,
        "potential_energy_eV": -100 + 0.1 * np.sin(9 * time),
        "temperature_K": 300 + 10 * np.cos(9 * time),
        "volume_A3": 1000 + time,
    }


def is_picture(path):
    with Image.open(path) as image:
        image.load()
        # a blank page has one colour
        return len(image.convert("RGB").getcolors(1 << 24)) > 10


def test_time_series_shows_energy_temperature_and_volume_of_each_run(tmp_path):
    figure = plots.time_series({"ASE": series(), "LAMMPS": series()}, n_atoms=10)
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert ["energy" in labels[0], "K" in labels[1], "volume" in labels[2]] == [True] * 3
    assert all(len(axis.lines) == 2 for axis in figure.axes)
    assert figure.axes[0].lines[0].get_ydata()[0] == 0.0
    assert is_picture(plots.save(figure, tmp_path / "a.png"))


def test_rdf_has_one_panel_per_pair_and_one_line_per_run(tmp_path):
    radii = np.linspace(0.1, 8, 50)
    run = {("Cl", "K"): np.ones(50), ("K", "K"): np.ones(50)}
    figure = plots.rdfs(radii, {"one": run, "two": run})
    assert len(figure.axes) == 2
    # two runs and the line at 1
    assert all(len(axis.lines) == 3 for axis in figure.axes)
    assert is_picture(plots.save(figure, tmp_path / "a.png"))


def test_parity_states_the_errors_it_shows(tmp_path):
    reference = np.array([0.0, 1.0, 2.0, 3.0])
    predicted = reference + np.array([0.1, -0.1, 0.1, -0.1])
    figure = plots.parity(
        {"forces": (reference, predicted)},
        {"forces": "eV/Å"},
        groups={"forces": np.array(["K", "K", "Cl", "Cl"])},
    )
    axis = figure.axes[0]
    assert "RMSE 0.1" in axis.texts[0].get_text()
    assert "eV/Å" in axis.get_xlabel()
    assert [t.get_text() for t in axis.get_legend().texts] == ["K", "Cl"]
    assert is_picture(plots.save(figure, tmp_path / "a.png"))


def test_parity_of_unequal_lengths_is_refused():
    with pytest.raises(DataError, match="4 reference and 3 predicted"):
        plots.parity({"energy": (np.zeros(4), np.zeros(3))}, {"energy": "eV"})


def test_phonon_bands_mark_high_symmetry_points_and_references(tmp_path):
    x = np.linspace(0, 1, 10)
    bands = np.stack([x, 2 * x], axis=1)
    figure = plots.phonon_bands(
        [x, x + 1], {"model": [bands, bands]}, [(0, "Γ"), (1, "X"), (2, "Γ")], [(0, 3.0, "exp.")]
    )
    axis = figure.axes[0]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["Γ", "X", "Γ"]
    assert axis.get_xlim() == (0.0, 2.0)
    assert is_picture(plots.save(figure, tmp_path / "a.png"))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.time_series({}, 1),
        lambda: plots.rdfs(np.ones(3), {}),
        lambda: plots.parity({}, {}),
        lambda: plots.phonon_bands([], {}, []),
    ],
)
def test_nothing_to_draw_is_an_error(draw):
    with pytest.raises(DataError):
        draw()


def test_failed_save_keeps_the_old_picture(tmp_path):
    path = tmp_path / "a.unknown"
    path.write_text("old")
    with pytest.raises(ValueError, match="unknown"):
        plots.save(plots.time_series({"a": series()}, 1), path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.unknown"]
