import dataclasses
import json
import re
import runpy
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plugins.data import build_dataset
from plugins.errors import InputError
from plugins.synthetic import HITSZ_VCM, MARKET1501, SyntheticSettings, render_layout

TOOL = str(Path(__file__).parents[2] / "tools" / "make_synthetic.py")
SETTINGS = SyntheticSettings(
    train_ids=3, test_ids=3, height=32, width=16, cameras=7, max_frames=12, imbalance=0.8
)
NAME = re.compile(r"\d{4}_c[1-6]s1_\d{6}_01\.jpg")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("rendered")
    render_layout(MARKET1501, root / "Market-1501-v15.09.15", SETTINGS)
    return root


def images_per(settings, key):
    """Training images by person or by (person, camera)."""
    counts = Counter()
    for row in MARKET1501.plan(settings)["train"]:
        counts[key(row.walk)] += len(row.files)
    return counts


def person(walk):
    return walk.pid


def place(walk):
    return walk.pid, walk.camid


@pytest.mark.slow
def test_fastreids_own_reader_reads_every_image(root, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    data = build_dataset("Market1501")
    plan = MARKET1501.plan(SETTINGS)
    folder = root / "Market-1501-v15.09.15"

    def expected(split, part, name):
        return {
            (f"{folder}/{file}", name(row.walk.pid), name(row.walk.camid - 1))
            for row in plan[split]
            for file in row.files
            if file.startswith(f"{part}/")
        }

    assert set(data.train) == expected(
        "train", "bounding_box_train", lambda number: f"market1501_{number}"
    )
    assert set(data.query) == expected("test", "query", int)
    assert set(data.gallery) == expected("test", "bounding_box_test", int)
    assert len(data.train) + len(data.query) + len(data.gallery) == len(list(root.rglob("*.jpg")))
    assert list(data.directions()) == ["Q2G"]


def test_every_query_finds_its_person_in_another_camera(root, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    data = build_dataset("Market1501")
    assert len({pid for _, pid, _ in data.query}) == 3
    for _, pid, camid in data.query:
        assert any(p == pid and c != camid for _, p, c in data.gallery)


def test_files_are_colored_pictures_and_named_as_in_market1501(root):
    for path in root.rglob("*.jpg"):
        assert NAME.fullmatch(path.name)
    pixels = np.asarray(Image.open(path))
    assert pixels.shape == (32, 16, 3)
    assert np.ptp(pixels, axis=2).any()


@pytest.mark.slow
def test_frames_are_those_of_the_walk_in_the_layout_of_clips(root, tmp_path):
    """The two layouts show the same people: an image is a frame of a walk."""
    one = dataclasses.replace(SETTINGS, train_ids=2, test_ids=2, imbalance=0.0)
    render_layout(HITSZ_VCM, tmp_path / "clips", one)
    render_layout(MARKET1501, tmp_path / "images", one)
    clips = {path.read_bytes() for path in (tmp_path / "clips" / "Train").glob("*/rgb/*/*.jpg")}
    images = list((tmp_path / "images" / "bounding_box_train").iterdir())
    assert {path.read_bytes() for path in images} == clips
    assert len(images) == len(list((tmp_path / "clips" / "Train").glob("*/rgb/*/*.jpg")))


def test_without_imbalance_every_walk_gives_all_its_frames():
    even = dataclasses.replace(SETTINGS, train_ids=20, imbalance=0.0)
    for rows in MARKET1501.plan(even).values():
        assert all(list(row.frames) == list(range(row.walk.frames)) for row in rows)


def test_imbalance_spreads_training_images_unevenly_over_people_and_over_cameras():
    spread = {}
    for imbalance in (0.0, 0.5, 1.0):
        settings = dataclasses.replace(SETTINGS, train_ids=60, imbalance=imbalance)
        people, places = images_per(settings, person), images_per(settings, place)
        by_person = {}
        for (pid, _), images in places.items():
            by_person.setdefault(pid, []).append(images)
        spread[imbalance] = (
            np.std(list(people.values())) / np.mean(list(people.values())),
            np.mean([max(counts) / min(counts) for counts in by_person.values()]),
        )
        assert len(people) == 60 and min(places.values()) >= 1
    for even, uneven in ((0.0, 0.5), (0.5, 1.0)):
        assert spread[uneven][0] > 1.5 * spread[even][0]
        assert spread[uneven][1] > 1.2 * spread[even][1]


def test_imbalance_leaves_the_test_split_and_the_kept_frames_alone():
    even, uneven = (
        MARKET1501.plan(dataclasses.replace(SETTINGS, imbalance=value)) for value in (0.0, 1.0)
    )
    assert even["test"] == uneven["test"]
    kept, every = ({file for row in plan["train"] for file in row.files} for plan in (uneven, even))
    assert kept < every


def test_asking_for_more_people_changes_nothing_about_the_first():
    more = dataclasses.replace(SETTINGS, train_ids=9)
    few = MARKET1501.plan(SETTINGS)["train"]
    assert MARKET1501.plan(more)["train"][: len(few)] == few


def test_another_layout_is_not_overwritten(root):
    folder = root / "Market-1501-v15.09.15"
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError, match=r"layout market1501 \(asked for: hitsz-vcm\).*folder$"):
        settings = dataclasses.replace(SETTINGS, imbalance=0.0)
        render_layout(HITSZ_VCM, folder, settings, overwrite=True)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_a_record_without_a_layout_is_of_clips(tmp_path):
    """Data sets rendered before there were layouts stay usable."""
    settings = dataclasses.replace(SETTINGS, imbalance=0.0)
    counts = render_layout(HITSZ_VCM, tmp_path, settings)
    file = tmp_path / "synthetic.json"
    record = json.loads(file.read_text())
    del record["layout"], record["settings"]["imbalance"]
    file.write_text(json.dumps(record))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert render_layout(HITSZ_VCM, tmp_path, settings) == counts
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


@pytest.mark.slow
def test_the_command_renders_any_layout(tmp_path, monkeypatch, capsys):
    out = tmp_path / "Market-1501-v15.09.15"
    options = {"layout": "market1501", "out": out, "train-ids": 2, "test-ids": 2, "workers": 1}
    options |= {"height": 32, "width": 16, "imbalance": 1.0}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    monkeypatch.setattr(sys, "argv", ["make_synthetic.py", *arguments])
    monkeypatch.setattr(sys, "path", list(sys.path))
    runpy.run_path(TOOL, run_name="__main__")
    files = list(out.rglob("*.jpg"))
    assert capsys.readouterr().out.splitlines()[-2].split()[-1] == str(len(files))
    assert {file.parent.name for file in files} == set(MARKET1501.owned)


@pytest.mark.slow
def test_more_cameras_than_market1501_has_are_refused():
    with pytest.raises(InputError, match=r"cameras is 8, expected at most 7 in the layout market"):
        MARKET1501.plan(SyntheticSettings(cameras=8))
