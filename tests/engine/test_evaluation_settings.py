"""What decides the numbers of an evaluation stands beside them, and tells evaluations apart."""

import hashlib
import json

import pytest

from plugins.config import setup_cfg
from plugins.engine.evaluation_settings import (
    about_weights,
    evaluation_settings,
    keep_other_evaluation,
)
from tests.helpers.small_runs import CONFIG, options
from tests.helpers.user_code import nothing_left_behind


def about(folder, weights=b"weights", **changes):
    file = folder.parent / "model_final.pth"
    file.write_bytes(weights)
    cfg = setup_cfg(str(CONFIG), options(folder, **changes))
    return {**about_weights(str(file)), "settings": evaluation_settings(cfg)}


def test_size_clip_and_weights_are_recorded_as_json_holds_them(tmp_path):
    found = about(tmp_path / "run", DATASETS__SYSU__MODE="indoor")
    assert json.loads(json.dumps(found)) == found
    assert found["weights_digest"] == hashlib.sha256(b"weights").hexdigest()[:12]
    settings = found["settings"]
    assert settings["INPUT.SIZE_TEST"] == [32, 16]
    assert settings["INPUT.CLIP.LENGTH"] == 2
    assert settings["INPUT.CLIP.SAMPLING"] == "segments"
    assert settings["DATASETS.SYSU.MODE"] == "indoor"
    assert "DATASETS.SYSU.SHOT" not in settings, "a default"
    assert "TEST.RANK_PICTURE" not in settings and "INPUT.SIZE_TRAIN" not in settings


def written(folder, record):
    folder.mkdir(exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps({**record, "results": {}}))
    (folder / "evaluation_queries.npz").write_text(str(record))
    (folder / "evaluation_pictures").mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"TEST__RANK_PICTURE": 3, "TEST__IMS_PER_BATCH": 4}, ""),
        ({"INPUT__SIZE_TEST": "[64,32]"}, "INPUT.SIZE_TEST was [32, 16], is [64, 32]"),
        ({"INPUT__CLIP__LENGTH": 6}, "INPUT.CLIP.LENGTH was 2, is 6"),
        ({"TEST__FLIP__ENABLED": True}, "TEST.FLIP.ENABLED was False, is True"),
        ({"DEFENSE__GOAT__POSITIVES": 1}, "DEFENSE.GOAT.POSITIVES was 4, is 1"),
        ({"DATASETS__SYSU__MODE": "indoor"}, "DATASETS.SYSU.MODE was all, is indoor"),
        ({"MODEL__PIXEL_MEAN": "[0.0,0.0,0.0]"}, "MODEL.PIXEL_MEAN was [123.675, "),
        ({"weights": b"others"}, "MODEL.WEIGHTS was "),
    ],
)
def test_an_evaluation_of_other_settings_is_kept_beside(tmp_path, caplog, changes, told):
    folder = tmp_path / "run"
    before = about(folder)
    written(folder, before)
    keep_other_evaluation(folder, about(folder, **changes))
    kept = ["evaluation_1.json", "evaluation_pictures_1", "evaluation_queries_1.npz"]
    if not told:
        assert sorted(path.name for path in folder.iterdir()) == [
            "evaluation.json",
            "evaluation_pictures",
            "evaluation_queries.npz",
        ]
        assert not caplog.messages
        return
    assert sorted(path.name for path in folder.iterdir()) == kept
    assert json.loads((folder / kept[0]).read_text())["settings"] == before["settings"]
    (line,) = caplog.messages
    assert told in line and "kept as evaluation_1.json, evaluation_queries_1.npz, eval" in line


@pytest.mark.slow
def test_evaluations_of_earlier_versions_and_damaged_ones_are_kept_too(tmp_path, caplog):
    folder = tmp_path / "run"
    new = about(folder)
    for number, text in enumerate(('{"weights": "w", "results": {}}', "{", "[]"), start=1):
        folder.mkdir(exist_ok=True)
        (folder / "evaluation.json").write_text(text)
        keep_other_evaluation(folder, new)
        assert (folder / f"evaluation_{number}.json").read_text() == text
    assert all("its settings are not recorded" in line for line in caplog.messages)
    keep_other_evaluation(tmp_path / "none", new)


def test_keys_of_users_parts_tell_evaluations_apart(tmp_path):
    folder = tmp_path / "run"
    file = tmp_path / "mine_of_a_user.py"
    file.write_text(
        "from plugins.config import Key, add_keys\n"
        "def add_config(cfg):\n"
        "    add_keys(cfg, {'MINE.WEIGHT': Key(0.5, 'Weight of mine.', least=0)})\n"
    )
    with nothing_left_behind():
        first, second = (
            evaluation_settings(
                setup_cfg(str(CONFIG), [*options(folder), "MINE.WEIGHT", weight], [str(file)])
            )
            for weight in ("0.5", "2")
        )
    assert "MINE.WEIGHT" not in first, "a default"
    assert second == {**first, "MINE.WEIGHT": 2.0}
