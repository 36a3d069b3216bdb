"""CSV files: rows with their lines, and what is no table."""

import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.errors import InputError
from plugins.utils.csv_files import read_csv

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\ufeff"), max_size=5)


@settings(max_examples=25)
@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=3)))
def test_rows_are_those_that_were_written(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "table.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    assert [cells for _, cells in read_csv(path)] == rows


def test_a_row_is_named_by_the_line_on_which_it_ends(tmp_path):
    (tmp_path / "a.csv").write_text('a,b\n\n"c\nd",e\r\nf,g', newline="")
    assert list(read_csv(tmp_path / "a.csv")) == [
        (1, ["a", "b"]), (2, []), (4, ["c\nd", "e"]), (5, ["f", "g"]),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_stray_quote_is_named_by_the_line_on_which_its_row_begins(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\nc,d\n" + 'e,"f\n' + "g,h\n" * 40_000)
    with pytest.raises(InputError) as told:
        list(read_csv(path))
    assert str(told.value) == (
        f"{path}:3: no row: field larger than field limit (131072); a quote that opens there may "
        "not be closed"
    )
