"""What each query found, of real evaluations: the files that a run leaves beside its results."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from plugins.config import setup_cfg
from plugins.data.datasets.own_names import item_names
from plugins.engine import Trainer
from plugins.engine.checkpoint import Checkpointer
from plugins.evaluation import Evaluation, pack_queries, read_queries
from tests.helpers.small_market import save_weights
from tests.helpers.small_runs import CONFIG, ROOT, options, train


def means(block: dict) -> dict:
    """What of a block is a mean over queries."""
    return {k: v for k, v in block.items() if k != "mAP-std" and not k.startswith("success")}


def assert_tells(evaluation: Evaluation, results: dict[str, dict]) -> None:
    """The rows are those of the table, in its order, with its means to the last bit."""
    blocks = {
        f"{dataset}/{row}": block
        for dataset, rows in results.items()
        for row, block in rows.items()
        if isinstance(block, dict)
    }
    assert [row.task for row in evaluation.rows] == list(blocks)
    for row in evaluation.rows:
        found, expected = row.block(), means(blocks[row.task])
        assert {name: found[name] for name in expected} == expected
        assert expected.keys() >= {"Rank-1", "mAP", "metric", "queries"}


@pytest.mark.slow
def test_training_and_eval_only_leave_files_that_tell_their_tables(datasets, tmp_path):
    short = {"SOLVER__MAX_EPOCH": 1, "SOLVER__WARMUP_EPOCHS": 0, "TEST__EVAL_PERIOD": 1, "SEED": 3}
    changes = {**short, "TEST__RERANK__ENABLED": True, "TEST__FLIP__ENABLED": True}
    done = train(datasets=datasets, output=tmp_path, **changes)
    assert done.returncode == 0, done.stderr
    trained = read_queries(tmp_path / "queries.npz")
    document = json.loads((tmp_path / "results.json").read_text())
    assert trained.run == {"seed": 3, "epochs": 1, "settings": document["settings"]}
    saved = document["results"]
    assert_tells(trained, saved)
    assert [row.plain for row in trained.rows] == [True, False, True, False]
    assert trained.rows[0].row == "I2V+flip"
    before = (tmp_path / "queries.npz").read_bytes()

    weights = str(tmp_path / "model_final.pth")
    changes = {"MODEL__WEIGHTS": weights, "SEED": 0, "TEST__FLIP__ENABLED": True}
    done = train("--eval-only", datasets=datasets, output=tmp_path, **changes)
    assert done.returncode == 0, done.stderr
    tested = read_queries(tmp_path / "evaluation_queries.npz")
    document = json.loads((tmp_path / "evaluation.json").read_text())
    about = {key: document[key] for key in ("weights", "weights_digest", "settings")}
    assert tested.run == {"seed": 0, **about}
    assert about["weights"] == weights
    assert_tells(tested, document["results"])
    assert (tmp_path / "queries.npz").read_bytes() == before

    first = tested.rows[0]
    assert len(set(first.path)) == len(first.path) == 12
    assert set(first.person) == {"501", "502", "503", "504"}
    for path, person in zip(first.path, first.person, strict=True):
        assert (datasets / path).is_file() and person in path

    # The same network twice: nothing differs, and nothing is in doubt.
    files = [str(tmp_path / name) for name in ("queries.npz", "evaluation_queries.npz")]
    command = [sys.executable, str(ROOT / "tools/compare_runs.py"), *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if "| I2V+flip/mAP " in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2] == cells[3] == f"{first.block()['mAP']:.2f}"
    assert cells[4:7] == ["+0.00", "[+0.00, +0.00]", "[+0.00, +0.00]"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    return save_weights(folder, CONFIG, options(folder))


@pytest.mark.slow
@pytest.mark.parametrize("side", ["query", "gallery"])
@pytest.mark.parametrize("drawn", [0, 3])
def test_attacked_rows_are_told_too_and_again_from_their_record(
    datasets, weights, monkeypatch, tmp_path, side, drawn
):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    changes = {"TEST__ATTACKS": "['SMA','QAPlus']" if side == "query" else "['SMA']", "SEED": 0}
    changes |= {"ATTACK__SIDE": side, "ATTACK__QUERIES": drawn, "ATTACK__STEPS": 2}
    cfg = setup_cfg(str(CONFIG), options(tmp_path, **changes))
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(str(weights), checkpointables=[])
    results, queries = Trainer.test_queries(cfg, model)
    assert_tells(queries, {"HITSZVCM": results})
    assert [row.row for row in queries.rows if row.plain] == ["I2V", "V2I"]
    rows = {row.row: row for row in queries.rows}
    prefix = "I2V+gallery" if side == "gallery" else "I2V"
    worst, attacked = rows[f"{prefix}+worst"], rows[f"{prefix}+SMA"]
    assert len(worst.path) == (drawn if drawn and side == "query" else 12)
    assert np.array_equal(worst.path, attacked.path)
    clean = dict(zip(rows["I2V"].path, rows["I2V"].average_precision, strict=True))
    for n, path in enumerate(worst.path):
        under = [attacked.average_precision[n], clean[path]]
        if side == "query":
            under.append(rows["I2V+QAPlus"].average_precision[n])
        assert worst.average_precision[n] == pytest.approx(min(under), abs=1e-12)
    again = Trainer.test_queries(cfg, model)[1]
    assert pack_queries(again) == pack_queries(queries)


def test_names_start_at_the_folder_of_all_data_sets_and_are_told_apart(tmp_path):
    root = tmp_path / "datasets"
    items = [
        ((f"{root}/A/1.jpg", f"{root}/A/2.jpg"), 7, 1, 0),
        ((f"{root}/A/1.jpg",), 7, 1, 0),
        (f"{tmp_path}/datasets-else/2.jpg", 8, 2),
        (f"{tmp_path}/other/3.jpg", 8, 2),
    ]
    names = item_names(None, items, str(root))
    outside = [f"{tmp_path}/datasets-else/2.jpg", f"{tmp_path}/other/3.jpg"]
    assert names["path"].tolist() == ["A/1.jpg", "A/1.jpg#2", *outside]
    assert names["person"].tolist() == ["7", "7", "8", "8"]
    assert names["camera"].tolist() == ["1", "1", "2", "2"]
