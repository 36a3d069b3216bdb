"""The words about keys: a page that is never old, and lines for --explain."""

from pathlib import Path

import pytest

from plugins.config.key import Key, describe
from plugins.config.keys import KEYS
from plugins.config.reference import explain, reference_page
from plugins.errors import InputError

PAGE = Path(__file__).resolve().parents[2] / "docs/config.md"


def test_the_page_is_what_the_keys_say_now():
    told = "run: python -m plugins.config > docs/config.md"
    assert PAGE.read_text(encoding="utf-8") == reference_page(), told


def test_every_key_has_a_row_of_four_cells():
    rows = [line for line in reference_page().splitlines() if line.startswith(("| `", "| **`"))]
    assert {name for name in KEYS if not any(f"**`{name}`**" in row for row in rows)} == set()
    for row in rows:
        assert row.replace("\\|", "").count("|") == 5, row


def test_a_key_is_explained_in_one_line():
    (line,) = explain(["ATTACK.EPS"])
    assert line.startswith("ATTACK.EPS: 8.0 by default; a number, 0 or more. Radius of the ball ")
    assert line.endswith("in gray levels (0 to 255).")


def test_a_section_is_explained_key_by_key_also_where_nothing_describes_it():
    assert [line.split(":")[0] for line in explain(["KD.EMA", "INPUT.CLIP"])] == [
        "KD.EMA.ENABLED",
        "KD.EMA.MOMENTUM",
        "INPUT.CLIP.LENGTH",
        "INPUT.CLIP.SAMPLING",
        "INPUT.CLIP.STRIDE",
        "INPUT.CLIP.ORDER",
    ]


def test_the_value_of_a_config_is_told_beside_the_default(tmp_path):
    base = tmp_path / "base.yml"
    base.write_text("ATTACK: {EPS: 4, STEPS: 3}\nINPUT: {CLIP: {LENGTH: 6}}\n")
    file = tmp_path / "mine.yml"
    file.write_text("_BASE_: base.yml\nATTACK: {EPS: 2}\n")
    lines = explain(["ATTACK.EPS", "INPUT.CLIP.STRIDE", "TEST.ATTACKS"], config_file=str(file))
    assert lines[1::2] == [
        f"  {file}: 2.0, differs from the default 8.0",
        f"  {file}: 1, the default",
        f"  {file}: [], the default",
    ]
    assert [line.split(":")[0] for line in lines[::2]] == [
        "ATTACK.EPS",
        "INPUT.CLIP.STRIDE",
        "TEST.ATTACKS",
    ]
    file.write_text("_BASE_: base.yml\nATTACK: {EPPS: 2}\n")
    with pytest.raises(InputError, match=r"mine\.yml: no config key 'ATTACK\.EPPS'; nearest: ATT"):
        explain(["ATTACK.EPS"], config_file=str(file))


def test_a_key_that_there_is_not_is_told_with_the_closest():
    with pytest.raises(InputError, match=r"--explain: no config key 'ATACK.EPS'; nearest: ATTACK"):
        explain(["ATACK.EPS"])


@pytest.mark.slow
def test_a_long_default_is_rounded_and_an_empty_one_shown():
    assert describe("A", Key(2 / 3, "Share.")) == "A: 0.666667 by default; a number. Share."
    assert describe("A", Key("", "Folder.")) == "A: '' by default; text. Folder."
    assert describe("A", Key([0.485 * 255], "Mean.")).startswith("A: [123.675] by default; a list")
