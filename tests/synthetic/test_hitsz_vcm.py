import dataclasses
import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plugins.errors import InputError
from plugins.synthetic import SyntheticSettings, render_hitsz_vcm
from plugins.utils.locks import hold

TOOL = str(Path(__file__).parents[2] / "tools" / "make_synthetic.py")
SETTINGS = SyntheticSettings(train_ids=3, test_ids=3, height=32, width=16, max_frames=40)
TINY = SyntheticSettings(train_ids=2, test_ids=2, height=32, width=16, max_frames=12)
NAME = re.compile(r"(\d{4})M([12])D(\d+)T(\d+)F(\d+\.jpg)")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("rendered") / "HITSZ-VCM"
    render_hitsz_vcm(root, SETTINGS, workers=1)
    return root


def lines(root, name):
    return (root / "info" / name).read_text().splitlines()


def rows(root, split):
    """(modality, start, end, pid, camera) as in the file."""
    return [
        (int(m), int(start), int(end), pid, int(camera))
        for m, start, end, pid, camera in map(str.split, lines(root, f"track_{split}_info.txt"))
    ]


def snapshot(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
def test_names_and_files_are_the_same_set(root, split):
    named = set()
    for name in lines(root, f"{split}_name.txt"):
        pid, modality, camera, _, file = NAME.fullmatch(name).groups()
        named.add(f"{split.title()}/{pid}/{('ir', 'rgb')[int(modality) - 1]}/D{camera}/{file}")
    there = {path.relative_to(root).as_posix() for path in (root / split.title()).rglob("*.jpg")}
    assert named == there and len(named) == len(lines(root, f"{split}_name.txt"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_track_rows_cut_the_names_without_gap_into_single_tracklets(root, split):
    names, expected = lines(root, f"{split}_name.txt"), 1
    for modality, start, end, pid, camera in rows(root, split):
        assert start == expected and start <= end
        parts = [NAME.fullmatch(name).groups() for name in names[start - 1 : end]]
        assert {part[:3] for part in parts} == {(pid, str(modality), str(camera))}
        assert len({part[3] for part in parts}) == 1, "one tracklet number"
        frames = [int(part[4].removesuffix(".jpg")) for part in parts]
        assert frames == list(range(frames[0], frames[0] + len(frames)))
        expected = end + 1
    assert expected == len(names) + 1


def test_query_rows_are_all_infrared_test_tracklets_on_one_line(root):
    (line,) = lines(root, "query_IDX.txt")
    infrared = [n for n, row in enumerate(rows(root, "test"), 1) if row[0] == 1]
    assert [int(token) for token in line.split(" ")] == infrared


def test_people_cameras_and_lengths_are_as_awkward_as_in_the_real_data(root):
    train, test = rows(root, "train"), rows(root, "test")
    assert {row[3] for row in train} == {"0001", "0002", "0003"}
    assert {row[3] for row in test} == {"0501", "0502", "0503"}
    by_modality = [{row[4] for row in train + test if row[0] == m} for m in (1, 2)]
    assert len(by_modality[0] & by_modality[1]) >= 2, "cameras shared by both modalities"
    lengths = [end - start + 1 for _, start, end, _, _ in train + test]
    assert max(lengths) == 24 and min(lengths) < 12
    assert any(length % 6 and length > 12 for length in lengths)


def test_files_are_pictures_of_the_size_asked_for_and_infrared_is_gray(root):
    for path in sorted(root.rglob("1.jpg")):
        pixels = np.asarray(Image.open(path))
        assert pixels.shape == (32, 16, 3)
        assert (np.ptp(pixels, axis=2) == 0).all() == ("/ir/" in path.as_posix())


def test_counts_agree_with_the_files(root):
    counts = json.loads((root / "synthetic.json").read_text())["counts"]
    for key, cell in counts.items():
        split, modality, camera = key.split("/")
        folder = {"visible": "rgb", "infrared": "ir"}[modality]
        files = list((root / split.title()).glob(f"*/{folder}/{camera}/*.jpg"))
        assert cell["frames"] == len(files)
        assert cell["identities"] == len({file.parts[-4] for file in files})
    assert sum(cell["tracklets"] for cell in counts.values()) == sum(
        len(rows(root, split)) for split in ("train", "test")
    )


@pytest.mark.slow
def test_two_workers_write_the_same_bytes_as_one(root, tmp_path):
    render_hitsz_vcm(tmp_path / "two", SETTINGS, workers=2)
    assert snapshot(tmp_path / "two") == snapshot(root)


def test_a_finished_data_set_is_left_alone(root):
    marked = root / "Train" / "0001"
    before = snapshot(root)
    (file := next(marked.rglob("1.jpg"))).write_bytes(b"mine")
    counts = render_hitsz_vcm(root, SETTINGS)
    assert file.read_bytes() == b"mine"
    file.write_bytes(before[file.relative_to(root).as_posix()])
    assert counts == json.loads((root / "synthetic.json").read_text())["counts"]


@pytest.mark.slow
def test_an_interrupted_rendering_is_taken_up_again(tmp_path):
    render_hitsz_vcm(tmp_path, TINY)
    whole = snapshot(tmp_path)
    record = json.loads((tmp_path / "synthetic.json").read_text())
    (tmp_path / "synthetic.json").write_text(json.dumps(record | {"finished": False}))
    (tmp_path / "Test" / "0501" / "ir").rename(tmp_path / "Test" / "0501" / "rgb" / "stray")
    (tmp_path / "info" / "query_IDX.txt").unlink()
    render_hitsz_vcm(tmp_path, TINY)
    assert whole.items() <= snapshot(tmp_path).items()


@pytest.mark.slow
def test_other_settings_are_named_and_only_overwritten_on_demand(tmp_path):
    render_hitsz_vcm(tmp_path, TINY)
    fewer_cameras = SyntheticSettings(**{**vars(TINY), "seed": 7, "test_cameras": 2})
    with pytest.raises(InputError, match=r"test_cameras 3 \(asked for: 2\), seed 0 \(asked for: 7"):
        render_hitsz_vcm(tmp_path, fewer_cameras)
    render_hitsz_vcm(tmp_path, fewer_cameras, overwrite=True)
    render_hitsz_vcm(tmp_path / "fresh" / "folder", fewer_cameras)
    fresh = snapshot(tmp_path / "fresh" / "folder")
    assert {key: value for key, value in snapshot(tmp_path).items() if key in fresh} == fresh
    assert len(list((tmp_path / "Test").rglob("*.jpg"))) == sum("Test" in key for key in fresh)


@pytest.mark.slow
def test_a_rendering_killed_while_it_removes_the_old_one_is_not_finished(tmp_path, monkeypatch):
    render_hitsz_vcm(tmp_path, TINY)
    whole = snapshot(tmp_path)
    remove = shutil.rmtree

    def removes_and_dies(path):
        remove(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", removes_and_dies)
    with pytest.raises(KeyboardInterrupt):
        render_hitsz_vcm(tmp_path, dataclasses.replace(TINY, seed=1), overwrite=True)
    assert snapshot(tmp_path).keys() < whole.keys()
    render_hitsz_vcm(tmp_path, TINY)
    assert snapshot(tmp_path) == whole


@pytest.mark.slow
def test_two_renderings_do_not_fill_one_folder_at_once(tmp_path):
    with (
        hold(tmp_path, "the data set", "rendering"),
        pytest.raises(InputError, match=f"^the data set {tmp_path}: in use by another "),
    ):
        render_hitsz_vcm(tmp_path, TINY)
    assert (tmp_path / ".rendering.lock").is_file(), "as a killed process leaves it"
    render_hitsz_vcm(tmp_path, TINY)
    assert not [*tmp_path.glob(".*")]
    with hold(tmp_path, "--out", "rendering"):
        render_hitsz_vcm(tmp_path, TINY)  # it is there already


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_folder_is_refused_even_with_overwrite(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"found thesis\.tex and no synthetic\.json"):
        render_hitsz_vcm(tmp_path, SETTINGS, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r":1: Expecting property name"),
        (b"[]", r": found \[\]; expected a mapping, the record of a rendered data set"),
        (b'"x"', r": found 'x'; expected a mapping"),
        (b'{"caf\xe9": 1}', r":1: byte 6 of the line, 0xe9, is not UTF-8"),
        (b'{"finished": true, "settings": [1]}', r": settings: found \[1\]; expected a mapping"),
        (b'{"settings": {}}', r": finished: found None; expected true or false"),
        (b"9" * 5000, r": a number has too many digits"),
        (b"[" * 100000, r": nested too deeply"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, content, message):
    (tmp_path / "synthetic.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"synthetic\.json{message}"):
        render_hitsz_vcm(tmp_path, SETTINGS, overwrite=True)
    assert (tmp_path / "synthetic.json").read_bytes() == content


@pytest.mark.slow
def test_the_command_renders_counts_and_shows_from_any_folder(tmp_path):
    sizes = {"train-ids": 2, "test-ids": 2, "height": 32, "width": 16, "max-frames": 12}
    options = [f"--{name}={value}" for name, value in sizes.items()]
    options += [
        "--ceiling",
        "--likeness=0.5",
        "--gait-only",
        "--gait-speed",
        "--site-seed=3",
        "--sheet-site=4",
    ]
    done = subprocess.run(
        [sys.executable, TOOL, "--out", "data", "--sheet", "new/sheet.png", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    frames = len(list((tmp_path / "data").rglob("*.jpg")))
    total, _, *told = done.stdout.splitlines()[-5:]
    assert total.split()[-1] == str(frames)
    assert re.match(
        r"ceiling of gait, I2V: mAP [\d.]+ in order, [\d.]+ as a set of frames", told[0]
    )
    assert Image.open(tmp_path / "new/sheet.png").width > 1000
    settings = json.loads((tmp_path / "data/synthetic.json").read_text())["settings"]
    asked = {"likeness": 0.5, "gait_only": True, "gait_speed": True, "site_seed": 3}
    assert asked.items() <= settings.items()


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--seed=5", "error: .*seed 0 .asked for: 5"),
        ("--sede=5", "error: no argument --sede=5; did you mean --seed"),
        ("--sheet=people", "error: --sheet people: expected a file [*][.]png"),
        (f"--out={TOOL}/x", "error: --out .*make_synthetic.py is a file; expected a folder"),
        ("--workers=0", "error: --workers 0: expected 1 or more"),
        ("--likeness=2", "error: synthetic data: likeness is 2.0, expected a number between 0.0 "),
        ("--site-seed=-3", "error: synthetic data: site_seed is -3, expected a whole number"),
        ("--tracklet-frames=5", "error: synthetic data: tracklet_frames is 5, expected"),
        ("--gait-only=3", "ignored explicit argument '3'"),
        ("--sheet-site=3", "error: --sheet-site 3: expected --sheet, too"),
        ("--gait-speed", "error: .*gait_speed False .asked for: True"),
    ],
)
def test_the_command_refuses_in_words_and_with_exit_code_2(
    root, monkeypatch, capsys, option, complaint
):
    monkeypatch.setattr(sys, "argv", ["make_synthetic.py", "--out", str(root), option])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(TOOL, run_name="__main__")
    assert stop.value.code == 2
    assert re.search(complaint, capsys.readouterr().err)
