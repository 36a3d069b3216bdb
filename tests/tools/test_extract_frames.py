import csv
import struct
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from plugins.data.conversion.videos import extract_frames
from plugins.data.datasets.manifest import COLUMNS, ManifestDataset
from plugins.data.frames import read_frame
from plugins.errors import InputError
from plugins.utils.locks import hold

TOOL = Path(__file__).parents[2] / "tools/extract_frames.py"
SHADES = (20, 80, 140, 200, 240)


def write_video(path, shades=SHADES):
    """A grey video without loss, a frame for each shade."""
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 64, "bgr0"
        for shade in shades:
            pixels = np.full((64, 32, 3), shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_table(folder, *rows):
    with open(folder / "videos.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def run(folder, *words):
    command = [sys.executable, TOOL, folder / "videos.csv", "--out", folder / "out", *words]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def videos(tmp_path):
    (tmp_path / "my clips").mkdir()
    for name in ("a.mkv", "b.mkv", "c.mkv"):
        write_video(tmp_path / "my clips" / name)
    write_table(
        tmp_path,
        ("my clips/a.mkv", "ann", "north", "visible", "", "", "train"),
        ("my clips/b.mkv", "bob", "north", "infrared", "", "", "query"),
        (tmp_path / "my clips/c.mkv", "bob", "south", "visible", "", "", "gallery"),
    )
    return tmp_path


@pytest.mark.parametrize(("words", "shades"), [((), SHADES), (("--every", "2"), SHADES[::2])])
def test_every_video_becomes_a_tracklet_of_its_frames(videos, words, shades):
    done = run(videos, *words)
    assert done.returncode == 0, done.stderr
    data = ManifestDataset(root=str(videos), file="out/manifest.csv")
    items = [*data.train, *data.query, *data.gallery]
    assert [(item.pid, item.camid, item.modality) for item in items] == [
        (0, 0, 0),
        (1, 0, 1),
        (1, 1, 0),
    ]
    for item in items:
        frames = [read_frame(path) for path in item.img_paths]
        assert [frame.unique().tolist() for frame in frames] == [[shade] for shade in shades]
        assert all(frame.shape == (3, 64, 32) for frame in frames)


def test_a_video_filmed_upright_with_a_turned_phone_stands_upright(tmp_path):
    """Its pixels lie, and its header says by how much."""
    lying = tmp_path / "lying.mp4"
    with av.open(lying, "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        pixels = np.zeros((32, 64, 3), np.uint8)
        pixels[:, :32] = 255  # the left half is what is up
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    video = lying.read_bytes()
    matrix = video.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(video[:matrix] + quarter + video[matrix + len(quarter) :])
    write_table(tmp_path, ("a.mp4", "ann", "north", "visible", "", "", "train"))
    assert run(tmp_path).returncode == 0
    (item,) = ManifestDataset(root=str(tmp_path), file="out/manifest.csv").train
    frame = read_frame(item.img_paths[0])
    assert frame.shape == (3, 64, 32)
    assert frame[:, :28].min() > 200 and frame[:, 36:].max() < 50


def test_bad_input_is_one_line_and_leaves_nothing(videos):
    table = (videos / "videos.csv").read_text()
    cases = {
        table.replace("b.mkv", "gone.mkv"): "videos.csv:3: ",
        table.replace("my clips/a.mkv", "videos.csv"): "videos.csv:2: ",
        table.replace(",query", ",test"): "split is 'test'",
        table.splitlines()[0] + "\n": "videos.csv: it lists no videos",
    }
    for text, message in cases.items():
        (videos / "videos.csv").write_text(text)
        done = run(videos)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert {path.name for path in videos.iterdir()} == {"my clips", "videos.csv"}
    (videos / "out").mkdir()
    assert "it is there already" in run(videos).stderr
    assert "is a file; expected a folder" in run(videos, "--out", TOOL / "x").stderr
    assert "--every 0: expected 1" in run(videos, "--every", "0").stderr


def test_a_folder_that_another_extraction_is_filling_is_left_alone(videos):
    frame = videos / "out.part" / "train" / "0001.png"
    with hold(videos / "out.part", "--out", "extraction"):
        frame.parent.mkdir()
        frame.touch()
        with pytest.raises(InputError, match=r"out\.part: in use by another extraction, process "):
            extract_frames(str(videos / "videos.csv"), videos / "out")
        assert frame.exists()
