"""Attacked sets on disk give the plain evaluator the figures of the attack."""

import csv
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from plugins.config import setup_cfg
from plugins.data.clips import test_clips as clips_of_a_tracklet
from plugins.data.datasets.tracklet import Tracklet
from plugins.engine import Trainer
from plugins.engine.checkpoint import Checkpointer
from plugins.errors import InputError
from plugins.robustness import AttackedSet
from tests.helpers.small_market import MARKET
from tests.helpers.small_runs import CONFIG, options


@pytest.mark.slow
@pytest.mark.parametrize("side, clips", [("query", 1), ("gallery", 2)])
def test_the_plain_evaluator_finds_the_figures_again(
    datasets, weights, monkeypatch, tmp_path, side, clips
):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    attack = {
        "TEST__ATTACKS": "['FNA']",
        "TEST__CLIPS": clips,
        "ATTACK__STEPS": 3,
        "ATTACK__STEP_SIZE": 2.02,  # no whole number, so that something is rounded
        "ATTACK__SIDE": side,
        "ATTACK__SAVE_IMAGES": str(tmp_path / "sets"),
    }
    cfg = setup_cfg(str(CONFIG), options(tmp_path, **attack))
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(str(weights[CONFIG]), checkpointables=[])
    attacked = Trainer.test(cfg, model)

    for direction in ("I2V", "V2I"):
        task = direction + ("" if clips == 1 else f"+clips={clips}")
        name = task + ("" if side == "query" else "+gallery")
        manifest = tmp_path / "sets" / f"HITSZVCM_{name}_FNA" / "manifest.csv"
        plain = setup_cfg(
            str(CONFIG),
            options(
                tmp_path / "plain",
                DATASETS__TESTS="['ManifestDataset']",
                DATASETS__MANIFEST__FILE=manifest,
                TEST__CLIPS=clips,
            ),
        )
        found = Trainer.test(plain, model)
        assert list(found) == [task, "metric"]
        files = attacked[f"{name}+FNA (files)"]
        assert {metric: files[metric] for metric in found[task]} == found[task]
        assert "mAP-std" in files
        for metric in ("Rank-1", "mAP", "queries"):
            assert found[task][metric] == pytest.approx(attacked[f"{name}+FNA"][metric], abs=0.5)
        assert attacked[f"{name}+FNA"]["mAP"] < attacked[task]["mAP"] - 1

        rows = list(csv.DictReader(manifest.open()))
        assert {row["path"].endswith(".png") for row in rows if row["split"] == side} == {True}
        others = [row["path"] for row in rows if row["split"] != side]
        assert all(path.startswith(str(datasets)) for path in others), (
            "the clean side is referred to"
        )
        with Image.open(manifest.parent / "images" / rows_of(rows, side)[0]) as image:
            assert image.format == "PNG" and image.size == (16, 32)


@pytest.mark.slow
def test_a_stock_model_finds_the_figures_of_attacked_images_again(
    market, weights, monkeypatch, tmp_path
):
    monkeypatch.setenv("FASTREID_DATASETS", str(market))
    attack = {"TEST__ATTACKS": "['FNA']", "ATTACK__STEP_SIZE": 2.02, "ATTACK__STEPS": 3}
    attack["ATTACK__SAVE_IMAGES"] = str(tmp_path / "sets")
    cfg = setup_cfg(str(MARKET), options(tmp_path, **attack))
    model = Trainer.build_model(cfg)
    assert cfg.MODEL.META_ARCHITECTURE == "Baseline", "fastreid's own"
    Checkpointer(model).load(str(weights[MARKET]), checkpointables=[])
    attacked = Trainer.test(cfg, model)

    manifest = tmp_path / "sets" / "Market1501_Q2G_FNA" / "manifest.csv"
    changes = {"DATASETS__TESTS": "['ManifestDataset']", "DATASETS__MANIFEST__FILE": manifest}
    found = Trainer.test(setup_cfg(str(MARKET), options(tmp_path / "plain", **changes)), model)

    for metric in ("Rank-1", "mAP", "queries"):
        assert found["Q2G"][metric] == pytest.approx(attacked["Q2G+FNA"][metric], abs=0.5)
    assert attacked["Q2G+FNA"]["mAP"] < attacked["Q2G"]["mAP"] - 1


@pytest.mark.slow
@pytest.mark.parametrize(("eps", "warned"), [(0.5, True), (1.0, False), (8.5, True)])
def test_files_of_whole_gray_levels_are_told_from_the_attack(
    market, weights, monkeypatch, tmp_path, caplog, eps, warned
):
    """With a budget of half a gray level the files hold the clean images."""
    monkeypatch.setenv("FASTREID_DATASETS", str(market))
    attack = {"TEST__ATTACKS": "FNA", "ATTACK__EPS": eps, "ATTACK__STEPS": 3}
    attack |= {"ATTACK__SAVE_IMAGES": tmp_path / "sets", "ATTACK__STEP_SIZE": 1.02 * eps / 3}
    cfg = setup_cfg(str(MARKET), options(tmp_path, **attack))
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(str(weights[MARKET]), checkpointables=[])
    results = Trainer.test(cfg, model)
    told = f"ATTACK.EPS: {eps:g} with ATTACK.SAVE_IMAGES: files hold whole gray levels, so that "
    assert caplog.text.count(told) == warned
    names = ["Q2G", "Q2G+FNA", "Q2G+FNA (files)", "Q2G+worst"]
    assert [name for name in results if name != "metric"] == names
    clean, attacked, files, _ = (results[name] for name in names)
    assert attacked["mAP"] < clean["mAP"]
    if eps < 1:
        assert {key: files[key] for key in clean} == clean, "no pixel moved by a whole gray level"
    else:
        assert files["mAP"] < clean["mAP"]


def test_an_image_that_is_gone_is_named_instead_of_listed(tmp_path):
    cfg = SimpleNamespace(
        INPUT=SimpleNamespace(CLIP=SimpleNamespace(LENGTH=1)), TEST=SimpleNamespace(CLIPS=1)
    )
    files = [tmp_path / f"{person}.jpg" for person in range(2)]
    for file in files:
        Image.new("RGB", (2, 2)).save(file)
    rows = torch.arange(2)
    items = [(str(file), 0, camera) for camera, file in enumerate(files)]
    exported = AttackedSet(tmp_path / "set", cfg, items, rows)
    batch = {"images": torch.zeros(2, 3, 2, 2), "rows": rows}
    exported.add(batch, batch)
    task = SimpleNamespace(side="query", query_rows=rows[:1], gallery_rows=rows[1:])
    assert exported.write_manifest(task, rows[:1]).is_file()
    (tmp_path / "set" / "images" / "000000_0000.png").unlink()
    with pytest.raises(InputError, match=r"000000_0000\.png: no such file; an image is saved only"):
        exported.write_manifest(task, rows[:1])


def rows_of(rows, split):
    return [row["path"].removeprefix("images/") for row in rows if row["split"] == split]


@pytest.mark.parametrize("clips", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("length", [1, 4, 7, 12])
def test_frames_are_numbered_so_that_the_same_clips_are_taken_again(tmp_path, clips, length):
    segments = 3
    taken = clips_of_a_tracklet(length, segments, clips)
    cfg = SimpleNamespace(
        INPUT=SimpleNamespace(CLIP=SimpleNamespace(LENGTH=segments)),
        TEST=SimpleNamespace(CLIPS=clips),
    )
    item = Tracklet(("frame.jpg",) * length, 5, 1, 0)
    rows = torch.zeros(len(taken), dtype=torch.int64)
    exported = AttackedSet(tmp_path, cfg, [item], rows)
    gray = torch.tensor(taken).float()[..., None, None, None].expand(-1, -1, 3, 2, 2)
    batch = {"images": gray, "rows": rows}

    exported.add(batch, batch)

    files = sorted((tmp_path / "images").iterdir())
    assert len(files) == len(taken) * segments
    stored = [Image.open(file).getpixel((0, 0))[0] for file in files]
    again = clips_of_a_tracklet(len(files), segments, clips)
    assert [[stored[frame] for frame in clip] for clip in again] == taken
