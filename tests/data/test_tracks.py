"""Tracks become tracklets: each crop is the pixels of its box, and of no other."""

import configparser
import csv
import sys

import numpy as np
import pytest
from PIL import Image

from plugins.data.conversion.tracks import crop_tracks, read_boxes
from plugins.data.datasets.manifest import COLUMNS, ManifestDataset
from plugins.data.frames import read_frame
from plugins.errors import InputError
from tests.helpers import commands
from tests.helpers.small_runs import ROOT
from tests.helpers.videos import write_video

SIZE = 40, 60  # width, height


def scene(number):
    """A frame in which every pixel says where it is, and in which frame."""
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    return np.stack([rows, columns, np.full_like(rows, number)], axis=-1).astype(np.uint8)


def write_sequence(folder, lines, frames=3, images="img1"):
    (folder / "gt").mkdir(parents=True)
    (folder / "gt/gt.txt").write_text("\n".join(lines) + "\n")
    (folder / images).mkdir()
    for number in range(1, frames + 1):
        Image.fromarray(scene(number)).save(folder / images / f"{number:06d}.png")
    info = configparser.ConfigParser()
    info["Sequence"] = {"name": folder.name, "imDir": images}
    with open(folder / "seqinfo.ini", "w") as file:
        info.write(file)


def write_table(folder, *rows):
    with open(folder / "sequences.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return str(folder / "sequences.csv")


def row(path, person="{track}", camera="north", modality="visible", split="train"):
    return path, person, camera, modality, "", "", split


LINES = [
    "1,7,11,6,20,30,1,1,0.9",
    "2,7,12,6,20,30,1,1,0.9",
    "1,9,31,41,30,40,1,1,1",  # beyond the frame at the right and below
    "1,3,1,1,10,10,0,1,1",  # does not count
    "1,4,1,1,10,10,1,3,1",  # a car
    "3,7,1,1,4,30,1,1,1",  # too narrow
]


@pytest.mark.parametrize("images", ["img1", "pictures"])
def test_a_crop_is_the_box_and_what_is_left_out_is_counted(tmp_path, images):
    write_sequence(tmp_path / "MOT-01", LINES, images=images)
    table = write_table(tmp_path, row("MOT-01"))
    done = crop_tracks(table, tmp_path / "out")
    assert (done.tracklets, done.frames) == (2, 3)
    assert sorted(done.losses) == [
        "MOT-01: 1 boxes of less than 8 pixels inside the frame",
        "MOT-01: 1 boxes of other classes",
        "MOT-01: 1 boxes that do not count",
    ]
    first, second, other = (
        np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").rglob("*.png"))
    )
    assert np.array_equal(first, scene(1)[5:35, 10:30])
    assert np.array_equal(second, scene(2)[5:35, 11:31])
    assert np.array_equal(other, scene(1)[40:60, 30:40])


def test_a_manifest_reads_people_cameras_and_splits(tmp_path):
    box = "1,{},5,5,20,30,1,1,1"
    for name, tracks in (("a", (1, 2)), ("b", (1, 2)), ("c", (1,)), ("d", (5,)), ("e", (5,))):
        write_sequence(tmp_path / name, [box.format(track) for track in tracks], frames=1)
    table = write_table(
        tmp_path,
        row("a"),
        row("b", camera="south", modality="infrared"),
        row("c", person="own-{track}", camera="south"),
        row("d", split="query", modality="infrared"),
        row("e", split="gallery", camera="south"),
    )
    done = crop_tracks(table, tmp_path / "out")
    data = ManifestDataset(root=str(tmp_path), file="out/manifest.csv")
    assert done.tracklets == 7
    people = [data.person_name(item.pid) for item in data.train]
    assert people == ["1", "2", "1", "2", "own-1"]
    assert [item.modality for item in data.train] == [0, 0, 1, 1, 0]
    assert [data.person_name(item.pid) for item in (*data.query, *data.gallery)] == ["5", "5"]
    assert all(read_frame(item.img_paths[0]).shape == (3, 30, 20) for item in data.train)


def test_boxes_beside_a_video_are_cropped_from_its_frames(tmp_path):
    write_video(tmp_path / "south.mkv")  # 32 x 64, one shade a frame: 20, 80, 140, 200, 240
    lines = ["1,1,1,1,16,32,-1,-1,-1,-1", "3,1,1,1,16,32,.9,-1,-1,-1", "5,2,9,9,16,32,.9"]
    (tmp_path / "south.txt").write_text("\n".join(lines) + "\n")
    table = write_table(tmp_path, row("south.mkv"))
    assert crop_tracks(table, tmp_path / "out")[:2] == (2, 3)
    shades = [
        np.unique(np.asarray(Image.open(path))).tolist()
        for path in sorted((tmp_path / "out").rglob("*.png"))
    ]
    assert shades == [[20], [140], [240]]
    (tmp_path / "south.txt").write_text("6,1,1,1,16,32\n")
    with pytest.raises(InputError, match=r"south\.txt:1: frame 6; south\.mkv has 5 frames"):
        crop_tracks(table, tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_ground_truth_beside_a_video_is_read_as_in_a_folder(tmp_path):
    write_video(tmp_path / "north.mkv")
    (tmp_path / "MOT/gt").mkdir(parents=True)
    write_video(tmp_path / "MOT/video.mkv")
    lines = ["1,1,1,1,16,32,1,1,.9", "1,2,1,1,16,32,0,1,1", "1,3,1,1,16,32,1,8,1"]
    for file in ("north.txt", "MOT/gt/gt.txt"):
        (tmp_path / file).write_text("\n".join(lines) + "\n")
    for path in ("north.mkv", "MOT"):
        done = crop_tracks(write_table(tmp_path, row(path)), tmp_path / f"{path}-out")
        assert (done.tracklets, done.frames) == (1, 1)
        assert sorted(done.losses) == [
            f"{path}: 1 boxes of other classes",
            f"{path}: 1 boxes that do not count",
        ]


def test_numbers_of_tracks_are_exact_and_integral_floats_are_whole(tmp_path):
    ids = "99999999999999999999", "99999999999999999998", "7.0", "1e1"
    lines = [f"1.0,{track},1,1,9,9,1,1.0,1" for track in ids]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    boxes, left_out = read_boxes(tmp_path / "a.txt")
    assert [box.track for box in boxes[1]] == [*ids[:2], "7", "10"] and not left_out


def write_crops(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 32), (number, 0, 0)).save(path)


def test_crops_of_boxmot_keep_their_bytes_and_the_order_of_their_frames(tmp_path):
    names = ["crops/0/12/2.jpg", "crops/0/12/10.jpg", "crops/0/3/1.jpg", "crops/2/5/1.jpg"]
    write_crops(tmp_path / "exp", *names)
    done = crop_tracks(write_table(tmp_path, row("exp")), tmp_path / "out")
    assert (done.tracklets, done.frames) == (2, 3)
    assert done.losses == ["exp: 1 crops of class 2"]
    written = [path.read_bytes() for path in sorted((tmp_path / "out").rglob("*.jpg"))]
    expected = ["crops/0/3/1.jpg", "crops/0/12/2.jpg", "crops/0/12/10.jpg"]
    assert written == [(tmp_path / "exp" / name).read_bytes() for name in expected]


def test_every_keeps_one_of_so_many_boxes_of_each_track(tmp_path):
    write_crops(tmp_path / "exp", *[f"1/{number}.png" for number in range(5)], "2/0.png")
    done = crop_tracks(write_table(tmp_path, row("exp")), tmp_path / "out", every=2)
    assert (done.tracklets, done.frames) == (2, 4)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,1,1,1,x,9"], r"gt\.txt:1: '1,1,1,1,x,9'; expected frame,track,left,top,width,height"),
        (["1,1,1,1"], r"gt\.txt:1"),
        (["1,nan,1,1,9,9"], r"gt\.txt:1"),
        (["1,1,1,1,9,9", "1.2,1,1,1,9,9"], r"gt\.txt:2: '1\.2,.*whole ones for frame and track"),
        (["1,1.4,1,1,9,9"], r"gt\.txt:1: .*whole ones"),
        (["1,1_0,1,1,9,9"], r"gt\.txt:1: .*whole ones"),
        (["1,1,nan,1,9,9"], r"gt\.txt:1: .*pixels up to 1e\+09"),
        (["1,1,1,inf,9,9"], r"gt\.txt:1: .*pixels up to"),
        (["1,1,1,1,1e308,9"], r"gt\.txt:1: .*pixels up to"),
        (["1,1,1,1,9,9,x"], r"gt\.txt:1"),
        (["1,1,1,1,9,9,1,1", "1,1,2,2,9,9,1,1"], r"gt\.txt:2: track 1 is in frame 1 at .*:1 too"),
        (["1,1,1,1,9,9,0,1"], "lists no boxes of pedestrians"),
        (["9,1,1,1,9,9,1,1"], r"gt\.txt:1: frame 9; s has 3 frames"),
    ],
)
def test_wrong_boxes_are_named_by_their_line(tmp_path, lines, message):
    write_sequence(tmp_path / "s", lines)
    with pytest.raises(InputError, match=message):
        crop_tracks(write_table(tmp_path, row("s")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_sequences_are_named_by_their_row(tmp_path):
    write_crops(tmp_path / "yolo", "crops/person/im.jpg")
    write_crops(tmp_path / "twice", "a/1/0.png", "b/1/0.png")
    write_crops(tmp_path / "nameless", "1/x.png")
    write_sequence(tmp_path / "gap", ["1,1,1,1,9,9"])
    (tmp_path / "gap/img1/000002.png").unlink()
    (tmp_path / "empty").mkdir()
    write_video(tmp_path / "alone.mkv")
    for path, message in {
        "gone": "no such folder or video",
        "empty": "no track in it",
        "yolo": "ultralytics",
        "twice": "track 1 is in another folder too",
        "nameless": "no number in its name",
        "gap": "frame 2 is missing",
        "alone.mkv": r"alone\.txt: no such file; expected the boxes",
    }.items():
        with pytest.raises(InputError, match=message):
            crop_tracks(write_table(tmp_path, row(path)), tmp_path / "out")
    rows = [row("twice"), row("./twice")]
    with pytest.raises(InputError, match="is listed at"):
        crop_tracks(write_table(tmp_path, *rows), tmp_path / "out")


def test_fractions_of_pixels_are_read(tmp_path):
    (tmp_path / "a.txt").write_text("1, 2, 3.5, 4.25, 5.5, 6.5, 0.8, -1, -1, -1\n\n")
    (box,) = read_boxes(tmp_path / "a.txt")[0][1]
    assert box[1:] == (1, "2", 2.5, 3.25, 5.5, 6.5)


@pytest.mark.slow
def test_the_command_converts_tracks(tmp_path):
    write_sequence(tmp_path / "s", LINES)
    table = write_table(tmp_path, row("s"))

    def run(*words):
        command = [sys.executable, ROOT / "tools/convert_data.py", *words]
        return commands.run(command)

    done = run("--tracks", table, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{tmp_path / 'out'}: 2 tracklets, 3 frames"
    assert "left out: s: 1 boxes of other classes" in done.stdout
    done = run("--tracks", table, "--out", tmp_path / "more", "--to", "hitsz-vcm")
    assert (done.returncode, "writes a manifest" in done.stderr) == (2, True)
