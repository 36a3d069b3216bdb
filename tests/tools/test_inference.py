"""From a run to a ranked list, as a user does it: extract, search, threshold, as commands."""

import csv
import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from plugins.data.datasets import HITSZVCM
from plugins.evaluation import Side, evaluate_ranking
from plugins.inference import Features, FeatureStore, Gallery
from tests.helpers import commands
from tests.helpers.lots import lot
from tests.helpers.run_folders import clip_run
from tests.helpers.small_runs import ROOT, environment


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return clip_run(tmp_path_factory.mktemp("run"))


NEW = functools.partial(subprocess.run, capture_output=True, text=True, timeout=600)


def tool(name, *words, datasets, run=commands.run):
    command = [sys.executable, str(ROOT / f"tools/{name}.py"), *map(str, words)]
    return run(command, env=environment(datasets))


def refused(done) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    return lines[0]


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_planted_clip_is_found_first_and_lists_are_brute_force(run, datasets, tmp_path):
    data = HITSZVCM(root=str(datasets))
    planted = data.gallery[5]
    folder = tmp_path / "seen/stranger"
    folder.mkdir(parents=True)
    for number, path in enumerate(planted.img_paths, start=1):
        shutil.copy(path, folder / f"{number}.jpg")
    gallery, query, lists = (tmp_path / n for n in ("gallery.npz", "query.parquet", "lists.csv"))
    for words, start in (
        (("--dataset", "HITSZVCM", "--split", "gallery", "--out", gallery), NEW),
        (("--clips", folder.parent, "--out", query), commands.run),
    ):
        done = tool("extract", run, *words, datasets=datasets, run=start)
        assert done.returncode == 0, done.stderr
        assert f"{words[-1]}: " in done.stdout and "features of length 640" in done.stdout
    assert not list(tmp_path.glob("*.parts"))
    done = tool(
        "search", "--gallery", gallery, "--query", query, "--top", "6", "--out", lists,
        "--threshold", "1e-5", datasets=datasets, run=NEW,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = read_csv(lists)
    first = table[0]
    assert first["query"] == "stranger" and first["rank"] == "1"
    assert first["path"] == planted.img_paths[0]
    assert (first["person"], first["camera"]) == (str(planted.pid), str(planted.camid))
    assert float(first["distance"]) == pytest.approx(0, abs=1e-6) and first["accepted"] == "yes"
    items, asked = Features.load(gallery), Features.load(query)
    near = 1 - items.features.astype(np.float64) @ asked.features[0].astype(np.float64)
    assert [entry["name"] for entry in table] == items.name[near.argsort()[:6]].tolist()
    assert f"stranger: {first['name']}, distance" in done.stdout

    message = refused(tool("extract", run, *words, datasets=datasets))
    assert "query.parquet: it is there already; expected --overwrite or another name" in message


@pytest.mark.slow
def test_shards_are_searched_both_ways_reranked_and_thresholded(
    run, datasets, tmp_path, run_tool, monkeypatch
):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))

    def tool(name, *words):
        status, printed, told = run_tool(ROOT / f"tools/{name}.py", *map(str, words))
        assert not status, told
        return printed

    whole = tmp_path / "all.npz"
    batch = ["TEST.IMS_PER_BATCH", "8"]
    words = ("--dataset", "HITSZVCM", "--out", whole, *batch)
    for more in (["--shard", "0/2"], ["--shard", "1/2"], []):
        done = tool("extract", run, *words, *more)
    shards = sorted(tmp_path.glob("all.*-of-2.npz"))
    assert [shard.name for shard in shards] == ["all.0-of-2.npz", "all.1-of-2.npz"]
    items = Features.load(whole)
    assert np.array_equal(Features.load(*shards).features, items.features)

    lists = tmp_path / "lists.csv"
    files = [word for shard in shards for word in ("--gallery", shard)]
    rerank = ["TEST.RERANK.ENABLED", "True", "TEST.RERANK.K1", "5", "TEST.RERANK.K2", "2"]
    done = tool(
        "search", *files, "--direction", "both", "--junk", "camera", "--top", "3", "--out", lists,
        *rerank,
    )  # fmt: skip
    table = read_csv(lists)
    assert {entry["direction"] for entry in table} == {"I2V", "V2I"}
    keys = {"k1": 5, "k2": 2, "lambda_value": 0.3}
    for direction, kinds in (("I2V", ("infrared", "visible")), ("V2I", ("visible", "infrared"))):
        query, side = (items.of(kind) for kind in kinds)
        expected = Gallery(side).search(query, 3, junk="camera", rerank=keys)
        found = [entry for entry in table if entry["direction"] == direction]
        assert [entry["name"] for entry in found] == [
            name for row in range(len(query)) for name in expected.names(row)
        ]
        for entry in found:
            same = entry["person"] == entry["query_person"]
            assert not (same and entry["camera"] == entry["query_camera"])

    done = tool("search", "--gallery", whole, "--top", "1", "--out", lists)
    table = read_csv(lists)
    assert len(table) == len(items) and all(entry["query"] != entry["name"] for entry in table)
    near = 1 - items.features.astype(np.float64) @ items.features.T
    np.fill_diagonal(near, np.inf)
    assert [float(e["distance"]) for e in table] == pytest.approx(near.min(axis=1), abs=1e-6)

    numbers = tmp_path / "threshold.json"
    done = tool(
        "threshold", whole, "--rate", "0.1", "--direction", "I2V", "--out", numbers,
    )  # fmt: skip
    found = json.loads(numbers.read_text())
    assert found["false_accept_rate"] <= 0.1 and found["people"] == 4
    assert f"distance below {found['threshold']:.6f} [" in done

    left = tmp_path / "left.npz"
    gone = items.person[0]
    done = tool("search", "--gallery", whole, "--remove", gone, "--save-gallery", left,
                "--compare", *items.name[items.person != gone][:2])  # fmt: skip
    assert gone not in Features.load(left).person and "distance" in done


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("extract", ["none", "--dataset", "HITSZVCM", "--out", "a.npz"], "none: no such folder"),
        ("extract", ["none", "--dataset", "HITSZVCM", "--out", "a.csv"], "--out a.csv: expected a"),
        ("extract", ["none", "--pictures", "x", "--shard", "2", "--out", "a.npz"], "--shard 2: ex"),
        ("extract", ["none", "--out", "a.npz"], "one of the arguments --dataset --pictures"),
        ("search", ["--gallery", "g.npz"], "nothing to do: expected --out"),
        ("search", ["--gallery", "g.npz", "--out", "l.csv", "--threshold", "0.1",
                    "TEST.RERANK.ENABLED", "True"], "--threshold 0.1: expected none with TEST.RE"),
        ("search", ["--gallery", "g.npz", "--out", "l.csv"], "g.npz: no such file"),
        ("search", ["--gallery", "g.npz", "--out", "l.csv", "SEED", "1"], "SEED: expected keys of"),
        ("search", ["--gallery", "g.npz", "--out", "l.csv", "--top", "0"], "--top 0: expected 1"),
        ("search", ["--gallery", "g.npz", "--out", "l.csv", "--direction", "VI"],
         "--direction VI: expected I2V, V2I, Q2G or both"),
        ("search", ["--gallery", "g.npz", "--out", "l.csv", "--junk", "c"], "no junk rule 'c'"),
        ("search", ["--gallery", "g.npz", "--out", "l.csv", "--metric", "l1"], "TEST.METRIC: 'l1'"),
        ("search", ["--gallery", "g.npz", "--out", "l.csv", "--index", "x"], "index 'x': expec"),
        ("extract", ["none", "--dataset", "X", "--modality", "infrared", "--out", "a.npz"],
         "--modality infrared: a data set has modalities of its own"),
        ("threshold", ["a.npz", "--gallery", "b.npz", "--query", "c.npz"], "expected files of"),
        ("threshold", ["a.npz"], "a.npz: no such file"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(name, words, message, run_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, printed, told = run_tool(ROOT / f"tools/{name}.py", *words)
    assert (status, printed) == (2, "")
    assert told.startswith("error: ") and message in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_gallery_on_disk_has_the_scores_of_the_evaluation(run, datasets, tmp_path):
    for split, shards in (("query", ("0/1",)), ("gallery", ("0/2", "1/2"))):
        for shard in shards:
            words = ("--split", split, "--store", tmp_path / split, "--shard", shard)
            done = tool(
                "extract", run, "--dataset", "HITSZVCM", *words, "TEST.IMS_PER_BATCH", "4",
                datasets=datasets,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
    stores = ("--query", tmp_path / "query", "--gallery", tmp_path / "gallery")
    done = tool("score", *stores, "--out", tmp_path / "scores.json", datasets=datasets)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "scores.json").read_text())
    store = FeatureStore(tmp_path / "gallery")
    features = Features.load(extracted(run, datasets, tmp_path))
    matrix = torch.from_numpy(features.features)
    sides = [
        Side(matrix[rows], *(numbers(getattr(features, name)[rows]) for name in PROTOCOL))
        for rows in np.split(np.arange(len(features)), [len(features) - len(store)])
    ]
    expected = evaluate_ranking(*sides)
    assert found["mAP"] == pytest.approx(100 * expected.mean_average_precision, abs=1e-9)
    assert f"mAP {found['mAP']:.2f}\n" in done.stdout
    assert done.stdout.endswith(f"queries {len(sides[0])}\nwritten: {tmp_path / 'scores.json'}\n")
    gone = tool("score", "--query", tmp_path, *stores[2:], datasets=datasets)
    assert "store.json: no such file" in refused(gone)


PROTOCOL = ("person", "camera")


def numbers(column):
    return torch.tensor([int(name) for name in column])


def extracted(run, datasets, folder):
    done = tool(
        "extract", run, "--dataset", "HITSZVCM", "--out", folder / "all.npz",
        "TEST.IMS_PER_BATCH", "4", datasets=datasets,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "all.npz"


def test_a_saved_gallery_is_replaced_when_all_is_checked_and_asked_for(tmp_path, run_tool):
    source, saved, index = (tmp_path / name for name in ("s.npz", "g.npz", "g.index"))
    lot(5, 0, "s").save(source)

    def search(*words):
        words = ("--gallery", source, "--save-gallery", saved, *words)
        return run_tool(ROOT / "tools/search.py", *map(str, words))

    assert search()[1] == f"{saved}: 5 items\n"
    older = saved.read_bytes()
    lot(3, 1, "s").save(source)
    there = "is there already; expected --overwrite or another name"
    assert search() == (2, "", f"error: --save-gallery {saved}: {saved} {there}\n")
    for wrong in (["--top", "0"], ["--direction", "X"], ["--compare", "s0", "none"]):
        status, _, told = search("--overwrite", "--out", tmp_path / "l.csv", *wrong)
        assert status == 2 and told.startswith("error: ")
        assert saved.read_bytes() == older, wrong
    assert search("--overwrite")[1] == f"{saved}: 3 items\n"
    saved.unlink()
    index.write_text("somebody's")
    assert search() == (2, "", f"error: --save-gallery {saved}: {index} {there}\n")
    assert index.read_text() == "somebody's"


@pytest.mark.slow
def test_items_of_one_name_and_a_modality_by_default_are_told(run, tmp_path, run_tool):
    for light in ("day", "night"):
        (tmp_path / light).mkdir()
        for name in ("ann_rgb.png", "bob.png"):
            Image.new("RGB", (16, 32)).save(tmp_path / light / name)
        lines = [f"{light}/ann_rgb.png", f"{light}/bob.png"]
        (tmp_path / f"{light}.txt").write_text("\n".join(lines))

    def extract(name, *words):
        words = (run, "--out", tmp_path / f"{name}.npz", "--overwrite", *words)
        status, printed, told = run_tool(ROOT / "tools/extract.py", *map(str, words))
        assert not status, told
        return printed.removeprefix(f"{tmp_path / name}.npz: 2 items, features of length 640")

    assert extract("day", "--pictures", tmp_path / "day") == (
        "; 2 of them visible by default, see --modality\n"
    )
    assert extract("day", "--pictures", tmp_path / "day", "--modality", "visible") == "\n"
    pattern = ("--names", "(?P<person>ann|bob)(_(?P<modality>rgb|ir))?")
    assert extract("night", "--pictures", tmp_path / "night", *pattern) == (
        "; 1 of them visible by default, see --modality\n"
    )
    store = (run, "--store", tmp_path / "store", "--pictures", tmp_path / "day")
    _, printed, _ = run_tool(ROOT / "tools/extract.py", *map(str, store))
    assert printed.endswith("length 640; 2 of them visible by default, see --modality\n")

    galleries = [w for light in ("day", "night") for w in ("--gallery", tmp_path / f"{light}.npz")]
    words = [*map(str, galleries), "--out", str(tmp_path / "lists.csv")]
    status, _, told = run_tool(ROOT / "tools/search.py", *words)
    assert status == 2 and "2 names come twice, the first ann_rgb.png; expected each item" in told
    assert told.endswith("or with --list, which names items by their paths\n")
    for light in ("day", "night"):
        extract(light, "--list", tmp_path / f"{light}.txt")
    status, _, told = run_tool(ROOT / "tools/search.py", *words)
    assert not status, told
    assert len({entry["query"] for entry in read_csv(tmp_path / "lists.csv")}) == 4
