"""Files with structures: what is wrong is named with its place."""

import gzip

import pytest
from ase.build import bulk
from ase.io import write

from equicalc.data.reading import read_atoms
from equicalc.errors import DataError

N_FRAMES = 4
LINES = 10  # of a frame: 8 atoms, their number, and a comment


@pytest.fixture
def lines(tmp_path):
    """Four frames of eight atoms as lines of extended XYZ."""
    path = tmp_path / "good.xyz"
    write(path, [bulk("KCl", "rocksalt", a=6.2 + 0.1 * k, cubic=True) for k in range(N_FRAMES)])
    return path.read_text().splitlines(keepends=True)


def read_lines(path, lines, index=":"):
    path.write_text("".join(lines))
    return read_atoms(path, index, "extended XYZ")


def test_whole_files_are_read_with_blank_lines_at_the_end_or_compressed(lines, tmp_path):
    assert len(read_lines(tmp_path / "a.xyz", [*lines, "\n", " \n"])) == N_FRAMES
    with gzip.open(tmp_path / "a.xyz.gz", "wt") as stream:
        stream.writelines(lines)
    assert len(read_atoms(tmp_path / "a.xyz.gz", ":", "extended XYZ")) == N_FRAMES


def test_a_file_cut_short_is_named_with_the_structure(lines, tmp_path):
    with pytest.raises(DataError, match="from structure 2 on, which begins in line 21 "):
        read_lines(tmp_path / "cut.xyz", lines[: 2 * LINES + 5])


def test_a_line_of_rubbish_is_named_with_the_structure(lines, tmp_path):
    lines[LINES + 4] = "rubbish here\n"
    with pytest.raises(DataError, match="from structure 1 on, which begins in line 11 "):
        read_lines(tmp_path / "rubbish.xyz", lines)


def test_a_frame_that_is_cut_by_the_next_one_is_named(lines, tmp_path):
    with pytest.raises(DataError, match=r"from line \d+ on, after 2 structures"):
        read_lines(tmp_path / "cut.xyz", lines[: LINES + 5] + lines)


def test_structures_behind_a_blank_line_are_not_lost_in_silence(lines, tmp_path):
    lines.insert(2 * LINES, "\n")
    with pytest.raises(DataError, match="blank line 21, after 2 structures, but line 22 goes on"):
        read_lines(tmp_path / "blank.xyz", lines)


def test_a_structure_that_is_not_there_is_named_with_their_number(lines, tmp_path):
    with pytest.raises(DataError, match="no structure 7: it holds 4"):
        read_lines(tmp_path / "a.xyz", lines, "7")


@pytest.mark.parametrize(("columns", "symbols"), [("id type x y z", None), ("id element x y z", 1)])
def test_dumps_of_lammps_need_elements(tmp_path, columns, symbols):
    name = "K" if symbols else "1"
    text = (
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n"
        f"0 5\n0 5\n0 5\nITEM: ATOMS {columns}\n1 {name} 0 0 0\n"
    )
    path = tmp_path / "a.lammpstrj"
    path.write_text(text)
    if symbols:
        assert read_atoms(path, ":", "structures")[0].get_chemical_symbols() == ["K"]
    else:
        with pytest.raises(DataError, match="dump_modify 1 element K Cl"):
            read_atoms(path, ":", "structures")
