"""Robust evaluation in one process: what its rows hold, and what changes them."""

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fastreid.evaluation import inference_on_dataset
from PIL import Image, ImageOps

from plugins.attacks import build_attack
from plugins.attacks.dataset_level import CMPS
from plugins.config import setup_cfg
from plugins.data import build_test_loader
from plugins.engine import Trainer
from plugins.engine.checkpoint import Checkpointer
from plugins.errors import InputError
from plugins.evaluation import evaluate_ranking
from plugins.evaluation.vvi_evaluator import scores
from plugins.protocol import Direction, Trial
from plugins.robustness import RobustEvaluator
from plugins.robustness.results import person_deviation
from plugins.utils.locks import hold
from tests.helpers.small_runs import CONFIG, options

ROWS = ["", "+SMA", "+FNA", "+worst"]
NAMES = ["Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP", "metric", "queries"]


@pytest.fixture
def evaluate(datasets, weights, monkeypatch):
    """A function: evaluates the untrained SADSTRM into a folder; keywords change the config."""
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))

    def evaluate(output: Path, **changes) -> dict:
        attacks = {"TEST__ATTACKS": "['SMA','FNA']", "ATTACK__STEPS": 2, "SEED": 0}
        cfg = setup_cfg(str(CONFIG), options(output, **attacks | changes))
        model = Trainer.build_model(cfg)
        Checkpointer(model).load(str(weights[CONFIG]), checkpointables=[])
        torch.set_num_threads(1)
        return Trainer.test(cfg, model)

    return evaluate


def outcomes(folder: Path, name: str) -> dict:
    return torch.load(folder / "robustness" / f"HITSZVCM_{name}.pt", weights_only=True)["stats"]


@pytest.mark.slow
def test_rows_come_clean_first_and_worst_last(evaluate, tmp_path):
    results = evaluate(tmp_path)

    rows = [direction + suffix for direction in ("I2V", "V2I") for suffix in ROWS]
    assert list(results) == [*rows, "metric"]
    clean = evaluate(tmp_path / "clean", TEST__ATTACKS="[]")
    for name in rows:
        block = dict(results[name])
        assert 0 <= block.pop("mAP-std") <= 50
        if name in clean:
            assert block == clean[name]
        expected = ["Rank-1", "mAP", "metric", "queries"] if name.endswith("worst") else NAMES
        assert list(block) == expected
        assert block["queries"] == 12
        worst = results[name[:3] + "+worst"]
        assert all(worst[metric] <= block[metric] for metric in ("Rank-1", "mAP"))
    assert results["metric"] == clean["metric"]
    for name in ("I2V_SMA", "V2I_FNA"):
        summary = json.loads((tmp_path / f"robustness/HITSZVCM_{name}.json").read_text())
        assert summary["scores"] == results[name.replace("_", "+")]
        assert summary["threat"]["eps"] == 8.0 and summary["recipe"]["steps"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", "+worst"])
def test_the_metric_is_clean_or_of_the_worst_case(evaluate, tmp_path, suffix):
    select = "worst" if suffix else "clean"
    results = evaluate(tmp_path, TEST__SELECT=select, ATTACK__QUERIES=3, ATTACK__STEPS=1)
    blocks = [results[direction + suffix] for direction in ("I2V", "V2I")]
    expected = sum((block["Rank-1"] + block["mAP"]) / 2 for block in blocks) / 2
    assert results["metric"] == pytest.approx(expected)
    others = [
        results[direction + "+worst" * (not suffix)]["metric"] for direction in ("I2V", "V2I")
    ]
    assert results["metric"] != pytest.approx(sum(others) / 2)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("QAPlus", "query"), ("CAMinus", "gallery")])
def test_an_attack_that_aims_says_how_often_it_succeeds(evaluate, tmp_path, caplog, name, side):
    caplog.set_level(logging.INFO, "plugins.robustness")
    changes = {"ATTACK__SIDE": side, "TEST__ATTACKS": [name], "ATTACK__QUERIES": 4}
    results = evaluate(tmp_path, **changes)
    row = ("I2V" if side == "query" else "I2V+gallery") + f"+{name}"
    shares = [results[row][f"success@{k}"] for k in (1, 5, 10, 20)]
    assert shares == sorted(shares, reverse=name == "CAMinus"), "longer lists hold more"
    assert all(0 <= share <= 100 for share in shares)
    # The gallery has 12 items.
    assert shares[-1] == (100 if name == "QAPlus" else 0)
    assert "success@1 " in caplog.text
    again = evaluate(tmp_path, **changes)
    assert again[row] == results[row], "also from the record"


class Trials:
    """A data set of which two galleries are drawn, as SYSU-MM01's are."""

    def __init__(self, data):
        self.query, self.gallery = data.query, data.gallery

    def directions(self):
        query, gallery = np.arange(12), np.arange(12, 24)
        trials = tuple(Trial(query, gallery[start::2]) for start in range(2))
        return {"I2V": Direction(trials, junk="none", cmc="identity")}


@pytest.mark.slow
def test_of_several_trials_the_first_is_attacked_and_clean_is_their_mean(
    datasets, weights, monkeypatch, tmp_path
):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    changes = {"TEST__ATTACKS": "['FNA']", "ATTACK__STEPS": 1, "ATTACK__EPS": 4.0}
    cfg = setup_cfg(str(CONFIG), options(tmp_path, **changes))
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(str(weights[CONFIG]), checkpointables=[])
    loader, data = build_test_loader(cfg, "HITSZVCM")
    evaluator = RobustEvaluator(cfg, Trials(data), model, loader.dataset, "HITSZVCM")

    results = inference_on_dataset(model, loader, evaluator)

    assert list(results) == ["I2V", "I2V+clean", "I2V+FNA", "I2V+worst", "metric"]
    items, query = evaluator.collected, torch.arange(12)
    each = []
    for gallery in (torch.arange(12, 24, 2), torch.arange(13, 24, 2)):
        sides = (items.select(rows) for rows in (query, gallery))
        each.append(scores(evaluate_ranking(*sides, junk="none", cmc="identity")))
    assert each[0]["mAP"] != each[1]["mAP"]
    for metric in ("Rank-1", "Rank-5", "mAP", "mINP"):
        mean = (each[0][metric] + each[1][metric]) / 2
        assert results["I2V"][metric] == pytest.approx(mean)
        assert results["I2V+clean"][metric] == pytest.approx(each[0][metric])
    found = evaluator.attack_stats["I2V"]["FNA"]
    guides = evaluator.task("I2V").guides(found.rows)
    assert len(guides.gallery) == 6
    queries = items.select(found.rows).with_features(found.features)
    sides = queries, items.select(torch.arange(12, 24, 2))
    expected = scores(evaluate_ranking(*sides, junk="none", cmc="identity"))
    expected["mAP-std"] = person_deviation(found, items.pids[found.rows])
    assert results["I2V+FNA"] == pytest.approx(expected)
    summary = json.loads((tmp_path / "robustness/HITSZVCM_I2V_FNA.json").read_text())
    assert summary["trial"] == "1 of 2"


@pytest.mark.slow
def test_no_budget_changes_nothing(evaluate, tmp_path):
    results = evaluate(tmp_path, ATTACK__EPS=0.0, ATTACK__STEPS=1)

    for name in ("I2V_SMA", "I2V_FNA", "V2I_SMA", "V2I_FNA"):
        assert results[name.replace("_", "+")] == pytest.approx(results[name[:3]])
        assert outcomes(tmp_path, name)["max_perturbation"].max() == 0


@pytest.mark.slow
@pytest.mark.parametrize("norm, eps", [("linf", 4.0), ("l2", 60.0)])
def test_the_budget_is_kept_and_used(evaluate, tmp_path, norm, eps):
    changes = {"ATTACK__NORM": norm, "ATTACK__EPS": eps, "ATTACK__STEP_SIZE": eps}
    evaluate(tmp_path, TEST__ATTACKS="['FNA']", ATTACK__QUERIES=3, **changes)

    for name in ("I2V_FNA", "V2I_FNA"):
        found = outcomes(tmp_path, name)
        assert found["max_perturbation"].max() <= eps * (1 + 1e-5)
        assert found["mean_perturbation"].min() > 0.5


@pytest.mark.slow
def test_a_seed_decides_all_draws(evaluate, tmp_path):
    found = []
    for number, seed in enumerate((0, 0, 1)):
        changes = {"TEST__ATTACKS": "['SMA']", "ATTACK__QUERIES": 3, "ATTACK__SEED": seed}
        results = evaluate(tmp_path / str(number), **changes)
        found.append((results, outcomes(tmp_path / str(number), "I2V_SMA")))
        assert results["I2V+clean"]["queries"] == results["I2V+SMA"]["queries"] == 3
        assert results["I2V"]["queries"] == 12

    (first, tensors), (again, same), (_, others) = found
    assert first == again
    assert torch.equal(tensors["features"], same["features"])
    assert not torch.equal(tensors["features"], others["features"])


@pytest.mark.slow
def test_the_size_of_a_batch_changes_rounding_only(evaluate, tmp_path):
    changes = {"TEST__ATTACKS": "['SMA']", "ATTACK__QUERIES": 3}
    for size in (2, 16):
        evaluate(tmp_path / str(size), ATTACK__BATCH=size, **changes)
    found, expected = (outcomes(tmp_path / size, "I2V_SMA") for size in ("2", "16"))
    assert torch.equal(found["rows"], expected["rows"])
    assert torch.equal(found["hit"], expected["hit"])
    # Sign steps turn the rounding of a gradient near 0 into whole steps of a pixel.
    gaps = (found["features"] - expected["features"]).norm(dim=1)
    assert (gaps / expected["features"].norm(dim=1)).max() < 1e-2


@pytest.mark.slow
def test_the_gallery_can_be_attacked(evaluate, tmp_path):
    results = evaluate(tmp_path, TEST__ATTACKS="['FNA']", ATTACK__SIDE="gallery")

    names = ["I2V", "I2V+gallery+FNA", "I2V+gallery+worst"]
    assert list(results)[:3] == names
    assert {results[name]["queries"] for name in names} == {12}
    assert results["I2V+gallery+FNA"]["mAP"] < results["I2V"]["mAP"]
    # The visible tracklets are the gallery of I2V: rows 12 to 23 of query + gallery.
    assert outcomes(tmp_path, "I2V+gallery_FNA")["rows"].tolist() == list(range(12, 24))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"),
    [("UAP", "query"), ("CAPlus", "gallery"), ("CMPS", "query"), ("CMPS", "gallery")],
)
def test_an_attack_that_must_know_all_rows_first_is_prepared(evaluate, tmp_path, name, side):
    results = evaluate(tmp_path, TEST__ATTACKS=[name], ATTACK__SIDE=side)
    stem = "I2V" if side == "query" else "I2V+gallery"
    assert results[f"{stem}+{name}"]["queries"] == 12
    found = outcomes(tmp_path, f"{stem}_{name}")
    assert found["mean_perturbation"].max() > 0.1
    assert found["max_perturbation"].max() <= 8 + 1e-4


@pytest.mark.slow
def test_cmps_learns_from_both_sides_of_a_direction(evaluate, tmp_path, monkeypatch):
    seen, prepare = [], CMPS.prepare

    def watched(self, features_of, batches):
        for batch, guides in batches:
            modalities = batch["modalities"].tolist()
            seen.append((modalities, guides.source, len(guides.gallery_pids)))
        return prepare(self, features_of, batches)

    monkeypatch.setattr(CMPS, "prepare", watched)
    evaluate(tmp_path, TEST__ATTACKS="['CMPS']", ATTACK__QUERIES=2)
    i2v = [([1, 1], "gallery", 12), ([0, 0], "query", 12)]
    v2i = [([0, 0], "gallery", 12), ([1, 1], "query", 12)]
    assert seen == [*i2v, *v2i]


@pytest.mark.slow
def test_several_clips_and_mirror_images_are_attacked_as_they_are_ranked(evaluate, tmp_path):
    changes = {"TEST__CLIPS": 2, "TEST__FLIP__ENABLED": True, "ATTACK__EPS": 0.0}
    changes |= {"TEST__ATTACKS": "['FNA']", "ATTACK__STEPS": 1, "ATTACK__QUERIES": 3}
    results = evaluate(tmp_path, ATTACK__BATCH=2, **changes)

    for task in ("I2V+flip+clips=2", "V2I+flip+clips=2"):
        assert results[f"{task}+FNA"] == pytest.approx(results[f"{task}+clean"])


@pytest.mark.slow
def test_what_was_attacked_is_read_and_what_has_changed_is_not(evaluate, tmp_path, caplog):
    caplog.set_level(logging.INFO, "plugins.robustness")
    read = "I2V FNA: read from its record"
    few = {"ATTACK__QUERIES": 2, "ATTACK__STEPS": 1}
    first = evaluate(tmp_path, TEST__ATTACKS="['FNA']", **few)
    assert read not in caplog.text
    again = evaluate(tmp_path, TEST__ATTACKS="['SMA','FNA']", **few)
    assert read in caplog.text
    assert again["I2V+FNA"] == first["I2V+FNA"]

    for changes in ({"ATTACK__EPS": 2.0}, {"TEST__METRIC": "euclidean"}):
        caplog.clear()
        evaluate(tmp_path, TEST__ATTACKS="['FNA']", **few | changes)
        assert read not in caplog.text, changes


@pytest.mark.slow
def test_the_guides_of_goat_are_in_its_record_and_in_no_other(evaluate, tmp_path, caplog):
    caplog.set_level(logging.INFO, "plugins.robustness")
    few = {"TEST__ATTACKS": "['FNA','GOAT']", "ATTACK__QUERIES": 2, "ATTACK__STEPS": 1}
    evaluate(tmp_path, **few)
    found = []
    for negatives in (1, 0):
        caplog.clear()
        evaluate(tmp_path, **few, DEFENSE__GOAT__NEGATIVES=negatives)
        found.append([f"I2V {name}: read" in caplog.text for name in ("FNA", "GOAT")])
    assert found == [[True, True], [True, False]]


@pytest.mark.slow
def test_images_that_were_overwritten_are_attacked_anew(
    evaluate, datasets, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("FASTREID_DATASETS", str(shutil.copytree(datasets, tmp_path / "data")))
    caplog.set_level(logging.INFO, "plugins.robustness")
    few = {"TEST__ATTACKS": "['FNA']", "ATTACK__QUERIES": 2, "ATTACK__STEPS": 1}
    first = evaluate(tmp_path, **few)
    for path in tmp_path.glob("data/HITSZ-VCM/Test/**/*.jpg"):
        with Image.open(path) as image:
            ImageOps.invert(image).save(path)

    again = evaluate(tmp_path, **few)
    assert "read from its record" not in caplog.text
    assert again["I2V+FNA"] != first["I2V+FNA"]


@pytest.mark.slow
def test_saved_images_that_are_gone_are_missed(evaluate, tmp_path):
    few = {"TEST__ATTACKS": "['FNA']", "ATTACK__QUERIES": 2, "ATTACK__STEPS": 1}
    first = evaluate(tmp_path, **few)
    few["ATTACK__SAVE_IMAGES"] = tmp_path / "sets"
    saved = evaluate(tmp_path, **few)
    assert {name: block for name, block in saved.items() if "(files)" not in name} == first
    assert "I2V+FNA (files)" in saved
    assert len([*(tmp_path / "sets").rglob("manifest.csv")]) == 2, "saved though attacked before"
    assert evaluate(tmp_path, **few) == saved
    shutil.rmtree(tmp_path / "sets")
    told = r"SAVE_IMAGES: .*I2V_FNA/manifest\.csv: no such file.*delete .*I2V_FNA\.pt to attack"
    with pytest.raises(InputError, match=told):
        evaluate(tmp_path, **few)


@pytest.mark.slow
def test_saved_images_of_another_attack_are_not_taken_for_this_ones(evaluate, tmp_path):
    few = {"TEST__ATTACKS": "['FNA']", "ATTACK__QUERIES": 2, "ATTACK__STEPS": 1}
    few["ATTACK__SAVE_IMAGES"] = tmp_path / "sets"
    first = evaluate(tmp_path / "a", **few)
    evaluate(tmp_path / "b", ATTACK__EPS=2, **few)
    told = r"SAVE_IMAGES: .*I2V_FNA: images of another attack; .*delete .*I2V_FNA\.pt to attack"
    with pytest.raises(InputError, match=told):
        evaluate(tmp_path / "a", **few)
    for record in (tmp_path / "a" / "robustness").iterdir():
        record.unlink()
    assert evaluate(tmp_path / "a", **few) == first


@pytest.mark.slow
def test_an_attack_that_was_stopped_does_not_go_on_with_the_images_of_another(evaluate, tmp_path):
    few = {"TEST__ATTACKS": "['FNA']", "ATTACK__QUERIES": 2, "ATTACK__STEPS": 1}
    few |= {"ATTACK__BATCH": 1, "ATTACK__SAVE_IMAGES": tmp_path / "sets"}
    first = evaluate(tmp_path / "a", **few)
    evaluate(tmp_path / "b", ATTACK__EPS=2, **few)
    for direction in ("I2V", "V2I"):
        record = tmp_path / "a" / "robustness" / f"HITSZVCM_{direction}_FNA.pt"
        record.with_suffix(".parts").mkdir()
        record.rename(record.with_suffix(".parts") / "000000.pt")  # as a batch that was finished
    assert evaluate(tmp_path / "a", **few) == first


@pytest.mark.slow
def test_two_attacks_do_not_save_images_in_one_folder_at_once(evaluate, tmp_path):
    few = {"TEST__ATTACKS": "['FNA']", "ATTACK__SAVE_IMAGES": tmp_path / "sets"}
    with (
        hold(tmp_path / "sets", "ATTACK.SAVE_IMAGES", "attack"),
        pytest.raises(InputError, match=r"^ATTACK\.SAVE_IMAGES .*sets: in use by another attack"),
    ):
        evaluate(tmp_path, **few)


@pytest.mark.slow
def test_a_damaged_record_is_named(evaluate, tmp_path):
    few = {"TEST__ATTACKS": "['FNA']", "ATTACK__QUERIES": 2, "ATTACK__STEPS": 1}
    evaluate(tmp_path, **few)
    record = tmp_path / "robustness" / "HITSZVCM_I2V_FNA.pt"
    record.write_bytes(record.read_bytes()[:500])
    with pytest.raises(
        InputError, match=r"HITSZVCM_I2V_FNA\.pt: not a whole attack record.*delete it"
    ):
        evaluate(tmp_path, **few)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"TEST__ATTACKS": "['FMA']"}, "TEST.ATTACKS: no ATTACK is named 'FMA'; known: (SMA|FNA)"),
        ({"TEST__SELECT": "best"}, "TEST.SELECT: 'best'; expected clean or worst"),
        ({"ATTACK__SIDE": "both"}, "ATTACK.SIDE: 'both'; expected query or gallery"),
        ({"ATTACK__QUERIES": -1}, "ATTACK.QUERIES: -1; expected 0 or more"),
        ({"ATTACK__BATCH": 0}, "ATTACK.BATCH: 0; expected 1 or more"),
        ({"ATTACK__NORM": "l2"}, r"SMA: 2 steps of 1 reach 2, less than ATTACK\.EPS 8;"),
    ],
)
def test_wrong_settings_are_named(evaluate, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        evaluate(tmp_path, **changes)


@pytest.mark.slow
def test_an_attack_that_cannot_reach_its_budget_is_told_and_for_l2_refused(caplog):
    def check(name, *opts):
        caplog.clear()
        opts = [str(opt) for opt in opts]
        build_attack(name, setup_cfg("", opts), "TEST.ATTACKS")
        return caplog.text

    told = r"{}: 15 steps of 1 reach 15, less than ATTACK\.EPS {}; .*STEP_SIZE or ATTACK\.STEPS"
    for name in ("SMA", "FNA", "GOAT", "LTA", "TMA"):
        assert not check(name)
        assert re.search(told.format(name, 16), check(name, "ATTACK.EPS", 16.0))
        assert not check(name, "ATTACK.EPS", 16.0, "ATTACK.STEPS", 16)
        far = ("ATTACK.NORM", "l2", "ATTACK.EPS", 300.0)
        with pytest.raises(InputError, match=told.format(name, 300)):
            check(name, *far)
        assert not check(name, *far, "ATTACK.STEP_SIZE", 30.0)
    tenths = ("ATTACK.EPS", 0.3, "ATTACK.STEP_SIZE", 0.1, "ATTACK.STEPS", 3)
    assert "reach" not in check("FNA", *tenths), "but for rounding"
    for name in ("MetricFGSM", "ODFA", "UAP", "RankMargin", "FNA-strong", "Square"):
        assert not check(name, "ATTACK.EPS", 16.0), "a step or steps that grow with eps"


@pytest.mark.slow
def test_the_model_is_left_as_it_was(datasets, weights, monkeypatch, tmp_path):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    changes = {"TEST__ATTACKS": "['SMA']", "ATTACK__STEPS": 1, "ATTACK__QUERIES": 2}
    cfg = setup_cfg(str(CONFIG), options(tmp_path, **changes))
    model = Trainer.build_model(cfg).train()
    trained = [parameter.requires_grad for parameter in model.parameters()]
    before = {name: value.clone() for name, value in model.state_dict().items()}

    Trainer.test(cfg, model)

    assert all(module.training for module in model.modules())
    assert [parameter.requires_grad for parameter in model.parameters()] == trained
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_a_folder_for_images_that_cannot_be_is_refused_before_the_attack(evaluate, tmp_path):
    (tmp_path / "file").touch()
    for folder, message in (
        ("/proc/foo", "cannot write there"),
        (tmp_path / "file", "a file; e"),
    ):
        with pytest.raises(InputError, match=f"^ATTACK.SAVE_IMAGES {folder}: {message}"):
            evaluate(tmp_path, ATTACK__SAVE_IMAGES=folder)
    assert not (tmp_path / "robustness").exists()
