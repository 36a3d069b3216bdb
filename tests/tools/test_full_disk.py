"""Commands on a disk that is full: the last line says so, and what was there is kept."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.small_disk import full_disk
from tests.helpers.small_runs import CONFIG, ROOT, environment, options
from tests.helpers.videos import write_table, write_video

pytestmark = pytest.mark.slow

SMALL = ["--train-ids", 3, "--test-ids", 3, "--height", 32, "--width", 16, "--workers", 1]


@pytest.fixture
def disk(tmp_path):
    with full_disk(tmp_path / "small", 16 << 10) as folder:
        (folder / "earlier").write_text("kept")
        yield folder


def run_on_full(tool: str, *words: object, datasets: Path) -> str:
    """The last line that a command says on stderr; its exit status is 1, without a traceback."""
    done = subprocess.run(
        [sys.executable, ROOT / f"tools/{tool}.py", *map(str, words)],
        env=environment(datasets),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("target", ["manifest", "hitsz-vcm"])
def test_convert_data(datasets, disk, target):
    words = ["--from", "HITSZVCM", "--to", target, "--out", disk / "out"]
    last = run_on_full("convert_data", *words, datasets=datasets)
    assert last.startswith("error: ") and last.endswith(": No space left on device")
    assert f": copy to {disk}/out.part/" in last
    assert os.listdir(disk) == ["earlier"] and (disk / "earlier").read_text() == "kept"


def test_convert_data_whose_index_finds_no_room(datasets, tmp_path):
    with full_disk(tmp_path / "small", 8 << 10) as disk:
        words = ["--from", "HITSZVCM", "--frames", "symlink", "--out", disk / "out"]
        last = run_on_full("convert_data", *words, datasets=datasets)
        assert last.startswith(f"error: {disk}/out.part/manifest.csv: cannot be written: No space")
        assert os.listdir(disk) == []


def test_extract_frames_and_tracks_of_a_video(tmp_path, disk):
    write_video(tmp_path / "a.mkv")
    write_table(tmp_path, ("a.mkv", 1, 1, "visible", "", "", "train"))
    whole = rf"error: {disk}/out\.part/train/000001/000\d\.png: cannot be written: No space left "
    whole += "on device; what was saved before is kept"
    words = [tmp_path / "videos.csv", "--out", disk / "out"]
    assert re.fullmatch(whole, run_on_full("extract_frames", *words, datasets=tmp_path))
    boxes = [f"{frame},1,1,1,30,60,1,-1,-1,-1\n" for frame in range(1, 6)]
    (tmp_path / "a.txt").write_text("".join(boxes))
    words = ["--tracks", tmp_path / "videos.csv", "--out", disk / "out"]
    assert re.fullmatch(whole, run_on_full("convert_data", *words, datasets=tmp_path))
    assert os.listdir(disk) == ["earlier"]


def test_make_synthetic(disk):
    last = run_on_full("make_synthetic", "--out", disk / "set", *SMALL, datasets=disk)
    assert last.startswith(f"error: {disk}/set/") and ": cannot be written: No space left" in last
    assert (disk / "earlier").read_text() == "kept"


def test_train_net_without_room_for_its_log(datasets, disk):
    (disk / "filling").write_bytes(b"x" * (4 << 10))
    words = ["--config-file", CONFIG, *options(disk / "run")]
    last = run_on_full("train_net", *words, datasets=datasets)
    assert last.startswith(f"error: {disk}/run") and ": cannot be written: No space left" in last
    assert (disk / "earlier").read_text() == "kept"
