"""TEST.FEATURE: one checkpoint of STIG, tested by its fused feature and by each part alone."""

import json

import pytest

from tests.helpers.small_market import save_weights
from tests.helpers.small_runs import CONFIG, options, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return save_weights(folder, CONFIG, options(folder))


def rows_of(feature, weights, datasets, output):
    changes = {"MODEL__WEIGHTS": weights, "TEST__FEATURE": feature, "TEST__EVAL_PERIOD": 1}
    done = train("--eval-only", datasets=datasets, output=output / feature, **changes)
    assert done.returncode == 0, done.stderr
    results = json.loads((output / feature / "evaluation.json").read_text())["results"]["HITSZVCM"]
    return {row: block["mAP"] for row, block in results.items() if isinstance(block, dict)}


def test_each_part_is_tested_alone_by_eval_only(weights, datasets, tmp_path):
    found = {f: rows_of(f, weights, datasets, tmp_path) for f in ("fused", "relation")}
    assert list(found["fused"]) == ["I2V", "V2I"]
    assert list(found["relation"]) == ["I2V+feature=relation", "V2I+feature=relation"]
    assert list(found["fused"].values()) != list(found["relation"].values())


def test_what_has_no_relation_is_refused_in_one_line(datasets, tmp_path):
    changes = {"TEST__FEATURE": "relation", "MODEL__TEMPORAL__NAME": "TemporalMean"}
    done = train("--eval-only", datasets=datasets, output=tmp_path, **changes)
    assert done.returncode == 2
    assert "TEST.FEATURE: relation needs a relation beside the appearance" in done.stderr
    assert "Traceback" not in done.stderr
