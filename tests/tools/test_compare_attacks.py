"""tools/compare_attacks.py as a user runs it."""

import functools
import json
import logging

import pytest

from plugins.robustness.report.comparison import comparison_tables
from tests.helpers.small_market import MARKET, render_market, save_weights
from tests.helpers.small_runs import ROOT

TOOL = ROOT / "tools/compare_attacks.py"
OPTIONS = ["INPUT.SIZE_TEST", "[32,16]", "DATALOADER.NUM_WORKERS", "0"]


@pytest.fixture
def compare(run_tool):
    """Runs the tool in this process; gives its exit status and output."""
    return functools.partial(run_tool, TOOL, "--config-file", str(MARKET))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ATTACK.EPS 8.0 x", "command line: 'x' has no value"),
        ("ATTACK.EPS 'x", "No closing quotation; expected keys and values"),
        ("ATTACK.EPSS 8", "command line: no config key 'ATTACK.EPSS'"),
    ],
)
def test_a_mistake_in_a_column_names_the_column(compare, tmp_path, words, message):
    rest = ["--out", str(tmp_path), "MODEL.WEIGHTS", "w", "TEST.ATTACKS", "FNA"]
    status, _, told = compare(
        "--column", "eps 4", "ATTACK.EPS 4", "--column", "eps 8", words, *rest
    )
    assert status == 2
    assert told.startswith(f"error: --column 'eps 8' {words!r}: {message}")


@pytest.mark.slow
def test_each_column_has_its_threat_and_a_stopped_comparison_goes_on(
    tmp_path, monkeypatch, compare, caplog
):
    monkeypatch.setenv("FASTREID_DATASETS", str(render_market(tmp_path / "data", test_ids=3)))
    weights = save_weights(tmp_path, MARKET, [*OPTIONS, "MODEL.DEVICE", "cpu"])
    out = tmp_path / "comparison"
    words = ["--out", str(out), "--column", "eps 0", "ATTACK.EPS 0.0"]
    more = ["--column", "eps 32", "ATTACK.EPS 32.0 ATTACK.STEPS 4"]
    rest = [*OPTIONS, "MODEL.WEIGHTS", str(weights), "TEST.ATTACKS", "['FNA']"]
    rest += ["ATTACK.SAVE_IMAGES", str(tmp_path / "sets")]
    assert compare(*words, *rest)[0] == 0
    caplog.set_level(logging.INFO)
    status, printed, _ = compare(*words, *more, *rest)
    assert status == 0
    assert "read from its record" in caplog.text
    found = json.loads((out / "comparison.json").read_text())
    assert list(found) == ["eps 0", "eps 32"]
    manifests = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("manifest.csv"))
    assert manifests == [
        f"sets/{name}/Market1501_Q2G_FNA/manifest.csv" for name in ("eps_0", "eps_32")
    ]
    task = "Market1501/Q2G"
    clean, none = found["eps 0"][task], found["eps 0"][f"{task}+FNA"]
    assert {key: none[key] for key in clean} == clean
    assert found["eps 32"][f"{task}+FNA"]["mAP"] < clean["mAP"]
    assert (out / "comparison.md").read_text() in printed
    assert f"{clean['Rank-1']:.1f} / {clean['mAP']:.1f}" in printed


def test_a_comparison_without_attacks_is_refused(compare):
    status, _, told = compare("--column", "a", "", "MODEL.WEIGHTS", "x.pth")
    assert status == 2
    assert "TEST.ATTACKS" in told


@pytest.mark.parametrize("other", ["eps 1", "eps: 1"])
def test_two_columns_of_one_name_or_folder_are_refused(compare, other):
    words = ["MODEL.WEIGHTS", "x.pth", "TEST.ATTACKS", "['FNA']"]
    status, _, told = compare("--column", "eps 1", "", "--column", other, "", *words)
    assert status == 2
    assert f"--column: 'eps 1' and '{other}' share the folder eps_1" in told


def test_a_column_without_a_closing_quotation_is_named(compare):
    status, _, told = compare("--column", "a", "ATTACK.EPS '8", "MODEL.WEIGHTS", "x.pth")
    assert status == 2
    assert "--column 'a' \"ATTACK.EPS '8\": No closing quotation; expected keys" in told


def test_an_attack_has_one_row_with_mirror_images_and_with_the_gallery_attacked_too():
    tasks = {
        "plain": ["Q2G", "Q2G+FNA", "Q2G+worst"],
        "flip": ["Q2G+flip", "Q2G+flip+rerank", "Q2G+flip+FNA", "Q2G+flip+worst"],
        "gallery": ["Q2G+clips=3", "Q2G+clips=3+gallery+FNA", "Q2G+clips=3+gallery+worst"],
    }
    found = {
        column: {f"set/{name}": {"Rank-1": place, "mAP": 0.0} for place, name in enumerate(names)}
        for column, names in tasks.items()
    }
    rows = [line.split("|")[1:-1] for line in comparison_tables(found).splitlines() if "|" in line]
    assert [[cell.split("/")[0].strip() for cell in row] for row in rows[2:]] == [
        ["clean, all queries", "0.0", "0.0", "0.0"],
        ["FNA", "1.0", "2.0", "1.0"],
        ["worst", "2.0", "3.0", "2.0"],
        ["clean, all queries, re-ranked", "-", "1.0", "-"],
    ]


@pytest.mark.parametrize("missing", ["I2V+FNA", "V2I"])
def test_a_table_for_each_search_with_a_dash_where_nothing_was_found(missing):
    block = {"Rank-1": 50.0, "mAP": 40.04}
    names = ["I2V", "I2V+FNA", "V2I", "V2I+FNA"]
    found = {"a": {f"set/{name}": block for name in names}}
    found["b"] = {f"set/{name}": block for name in names if name != missing}
    text = comparison_tables(found)
    assert text.count("50.0 / 40.0") == 7 and text.count("| - ") == 1
    assert text.index("set/I2V") < text.index("set/V2I")


def test_attacks_with_an_aim_have_a_table_of_it():
    scores = {"Rank-1": 50.0, "mAP": 40.0}
    aimed = {**scores, "success@1": 12.5, "success@10": 30.0}
    text = comparison_tables(
        {"a": {"set/Q2G": scores, "set/Q2G+SMA": scores, "set/Q2G+TMA": aimed}}
    )
    first, second = text.split("success@1 / success@10, percent.")
    assert first.count("50.0 / 40.0") == 3 and "SMA" in first
    assert "12.5 / 30.0" in second and "TMA" in second
    assert "SMA" not in second and "clean" not in second
