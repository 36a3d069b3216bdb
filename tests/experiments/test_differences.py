"""The differences of an ablation, from runs whose truth is known."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from plugins.evaluation import Evaluation
from plugins.experiments import (
    compare,
    differences_table,
    plan_runs,
    read_ablation,
    record_result,
    write_differences,
)
from plugins.experiments.differences import read_differences, read_runs
from plugins.experiments.results import read_results, recorded_queries
from tests.helpers.ablation_files import SEVERAL, write
from tests.helpers.query_rows import rows_of

pytestmark = pytest.mark.slow

SEEDS = range(6)
GAIN = 0.08  # of the row "margin" in average precision, everywhere
KEYS = {"row", "against", "dataset", "metric", "difference", "low", "high", "queries", "people"}


def recorded(tmp_path, gain=GAIN, seeds=SEEDS, **changes):
    """An ablation with a record of two rows that differ by ``gain`` on two data sets."""
    rows = {
        "baseline": {"seeds": list(seeds)},
        "margin": {"overrides": {"MODEL.SELF_ATTACK.MARGIN": 0.5}, "seeds": list(seeds)[:4]},
    }
    tree = {**SEVERAL, "rows": rows, "tests": {"other-sites": SEVERAL["tests"]["other-sites"]}}
    ablation = read_ablation(write(tmp_path, **{**tree, **changes}))
    for run in plan_runs(ablation, ablation.choose(None), None, tmp_path):
        evaluation = Evaluation([*found(run, gain, "tiny"), *found(run, gain, "other-sites")])
        metrics = {row.task: row.block() for row in evaluation.rows}
        result = {"row": run.row.name, "seed": run.seed, "commit": "abc", "metrics": metrics}
        result |= run.ablation.wanted(run.row)
        tests = {name: test.record() for name, test in run.ablation.tests.items()}
        record_result(ablation, {**result, "epochs": 2, "tests": tests}, evaluation)
    return ablation


def found(run, gain: float, dataset: str) -> list:
    """People differ much, seeds and queries little."""
    generator = np.random.default_rng(run.seed + 100 * (run.row.name == "margin"))
    rows = []
    for row in rows_of(0):
        base = np.linspace(0.2, 0.7, 18) + generator.normal(0, 0.02, 18)
        ap = base + gain * (run.row.name == "margin")
        ap = np.where(row.positives > 0, ap, np.nan)
        path = np.array([f"{n % 2 + 1}/{p}" for n, p in enumerate(row.path)])
        rows.append(replace(row, dataset=dataset, average_precision=ap, path=path))
    return rows


def test_every_row_is_compared_with_the_first_on_every_data_set(tmp_path):
    ablation = recorded(tmp_path)
    entries = write_differences(ablation)
    file = ablation.results.with_name("differences.json")
    assert json.loads(file.read_text()) == entries
    assert all(entry.keys() >= KEYS | {"seeds", "ablation"} for entry in entries)
    kinds = [entry["kind"] for entry in entries]
    assert kinds == sorted(kinds, key=["primary", "exploratory", "null"].index)
    tasks = {
        kind: [(e["dataset"], e["metric"]) for e in entries if e["kind"] == kind]
        for kind in dict.fromkeys(kinds)
    }
    everything = [
        ("tiny", "mAP"),
        ("tiny", "I2V/mAP"),
        ("other-sites", "mAP"),
        ("other-sites", "I2V/mAP"),
        ("other-sites", "V2I/mAP"),
    ]
    assert tasks["primary"] == [("other-sites", "mAP")]
    assert tasks["exploratory"] == [each for each in everything if each not in tasks["primary"]]
    assert tasks["null"] == everything
    for entry in entries:
        if entry["kind"] == "null":
            assert (entry["row"], entry["against"], entry["seeds"]) == ("baseline", "baseline", 3)
            assert abs(entry["difference"]) < 1.5
            assert entry["low"] < entry["difference"] < entry["high"]
        else:
            assert (entry["row"], entry["against"], entry["seeds"]) == ("margin", "baseline", 4)
            assert entry["low"] <= 100 * GAIN <= entry["high"]
            assert entry["p"] < 0.05 and entry["detectable"] < 100 * GAIN
        assert entry["people"] == 6
        assert entry["queries"] == (34 if entry["metric"] == "mAP" else 17)
        assert ("sites" in entry) == (entry["dataset"] == "other-sites")
    primary = entries[0]
    assert primary["holm"] == primary["p"] and primary["sites"] == 2
    assert primary["resampled_low"] == pytest.approx(primary["low"], abs=0.5)


def test_differences_come_again_from_the_record_alone_and_are_those_of_the_runs(tmp_path):
    ablation = recorded(tmp_path)
    entries = write_differences(ablation)
    assert write_differences(read_ablation(ablation.file)) == entries
    runs = read_runs(ablation, read_results(ablation.results))
    sides = ([runs[row][seed]["tiny"] for seed in SEEDS[:4]] for row in ("margin", "baseline"))
    difference, _ = compare(*sides, "I2V/mAP")
    (entry,) = (e for e in entries if (e["dataset"], e["metric"]) == ("tiny", "I2V/mAP")
                and e["kind"] == "exploratory")  # fmt: skip
    assert entry["difference"] == pytest.approx(difference.mean, abs=1e-4)
    # Half precision moves it by little: here it is from the numbers themselves.
    exact = [
        [found(run, GAIN, "tiny")[0].block()["mAP"] for run in
         plan_runs(ablation, ablation.choose([row]), list(SEEDS[:4]), tmp_path)]
        for row in ("margin", "baseline")
    ]  # fmt: skip
    assert entry["difference"] == pytest.approx(np.mean(exact[0]) - np.mean(exact[1]), abs=0.01)


def test_primary_comparisons_are_corrected_for_their_number(tmp_path):
    primary = [
        {"row": "margin", "dataset": "other-sites", "metric": metric}
        for metric in ("mAP", "I2V/mAP", "V2I/mAP")
    ]
    entries = write_differences(recorded(tmp_path, gain=0.006, primary=primary))
    named = [entry for entry in entries if entry["kind"] == "primary"]
    assert [entry["metric"] for entry in named] == ["mAP", "I2V/mAP", "V2I/mAP"]
    smallest = min(named, key=lambda entry: entry["p"])
    assert smallest["holm"] == pytest.approx(min(1, 3 * smallest["p"]), abs=2e-4)
    assert all(entry["holm"] >= entry["p"] for entry in named)


def test_a_primary_comparison_that_is_not_recorded_counts_in_the_correction(tmp_path):
    primary = [
        {"row": row, "dataset": "tiny", "metric": "mAP"} for row in ("margin", "missing", "absent")
    ]
    overrides = {"MODEL.SELF_ATTACK.MARGIN": 0.7}
    rows = {
        "baseline": {"seeds": [0, 1]},
        "margin": {"overrides": {"MODEL.SELF_ATTACK.MARGIN": 0.5}, "seeds": [0, 1]},
        "missing": {"overrides": overrides, "seeds": [7]},
        "absent": {"overrides": overrides, "seeds": [8]},
    }
    entries = write_differences(recorded(tmp_path, gain=0.01, rows=rows, primary=primary))
    (entry,) = [entry for entry in entries if entry["kind"] == "primary"]
    assert entry["holm"] == pytest.approx(min(1, 3 * entry["p"]), abs=2e-4)


def test_other_ablations_of_the_project_keep_their_differences(tmp_path):
    ablation = recorded(tmp_path)
    file = ablation.results.with_name("differences.json")
    other = {**write_differences(ablation)[0], "ablation": "zebra"}
    file.write_text(json.dumps([other]))
    entries = write_differences(ablation)
    assert read_differences(file) == [*entries, other]
    text = file.with_suffix(".md").read_text()
    assert re.findall("^## (.*)", text, re.M) == ["ablation", "zebra"]


def test_a_table_of_differences_is_read_by_people(tmp_path):
    text = differences_table(write_differences(recorded(tmp_path)))
    line = next(line for line in text.splitlines() if line.startswith("| primary"))
    assert "| margin " in line and "Holm 0.0" in line and "over 2 sites [" in line
    assert re.search(r"\+[78]\.\d\d", line)


def test_two_seeds_have_no_null_and_one_row_no_difference(tmp_path):
    (tmp_path / "two").mkdir()
    entries = write_differences(recorded(tmp_path / "two", seeds=range(2)))
    assert {entry["kind"] for entry in entries} == {"primary", "exploratory"}
    rows = {"baseline": {"seeds": [0]}}
    ablation = recorded(tmp_path, rows=rows, primary=[])
    assert write_differences(ablation) == []
    assert not ablation.results.with_name("differences.json").exists()


def test_seeds_with_people_of_their_own_are_told_and_have_no_null(tmp_path):
    ablation = recorded(tmp_path, primary=[])
    for result in read_results(ablation.results):
        evaluation = recorded_queries(ablation, result)
        rows = [
            replace(row, path=np.char.add(f"{result['seed']}-", row.path)) if row.dataset == "tiny"
            else row for row in evaluation.rows
        ]  # fmt: skip
        record_result(ablation, result, Evaluation(rows, evaluation.run))
    entries = write_differences(ablation)
    own = {(entry["dataset"], entry["kind"]): entry["crossed"] for entry in entries}
    assert own == {
        ("tiny", "exploratory"): False,
        ("other-sites", "exploratory"): True,
        ("other-sites", "null"): True,
    }
    assert "| 24, each seed its own |" in differences_table(entries)
