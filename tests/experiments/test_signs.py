"""Signs of life: what a record keeps of a training's metrics, and their table."""

import json

import pytest

from plugins.errors import InputError
from plugins.experiments import read_ablation, table
from plugins.experiments.signs import gather_signs, signs_table
from tests.helpers.ablation_files import result, write

LINES = [
    {"iteration": 0, "temporal/gate_over_clips": 0.5, "self_attack/feature_distance_eval": 0.25},
    {"iteration": 1, "temporal/gate_over_clips": 0.123456, "lr": 0.1, "total_loss": 2},
]


def test_a_record_keeps_the_last_value_of_each_sign(tmp_path):
    (tmp_path / "metrics.json").write_text("".join(f"{json.dumps(line)}\n" for line in LINES))
    assert gather_signs(tmp_path) == {
        "self_attack/feature_distance_eval": 0.25,
        "temporal/gate_over_clips": 0.1235,
        "total_loss": 2.0,
    }


def test_a_run_without_metrics_has_no_signs(tmp_path):
    assert gather_signs(tmp_path) == {}


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(LINES[0]) + '\n{"tempo')
    with pytest.raises(InputError, match=r"metrics.json:2: no line of metrics"):
        gather_signs(tmp_path)


@pytest.mark.slow
def test_the_table_averages_the_seeds_of_a_row_and_leaves_out_rows_without_signs(tmp_path):
    ablation = read_ablation(write(tmp_path))
    results = [
        result(ablation, "baseline", 0, 50.0, 20.0),
        result(ablation, "margin", 0, 50.0, 20.0) | {"signs": {"a": 1.0, "b": 0.5}},
        result(ablation, "margin", 1, 50.0, 20.0) | {"signs": {"a": 2.0}},
    ]
    lines = signs_table(ablation.rows, results).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == ["sign of life", "`margin`"]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:4]]
    assert cells == [["`a`", "1.5"], ["`b`", "0.5"]]
    assert table(ablation, results).endswith("mean over the seeds.\n")
    assert "sign of life" not in table(ablation, results[:1])
