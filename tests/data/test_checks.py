import shutil
from pathlib import Path

import pytest
from PIL import Image

from plugins.balancing.tables import MANIFEST, Outcome, write_table
from plugins.config import setup_cfg
from plugins.data import build_dataset, checks
from plugins.data.datasets import INFRARED, VISIBLE, Tracklet
from plugins.data.datasets.splits import read_splits
from plugins.data.datasets.tracklet import SPLITS
from plugins.data.sample_sheet import save_sample_sheet
from tests.helpers.trees import run_tool

TOOL = str(Path(__file__).parents[2] / "tools" / "check_data.py")


def tracklet(pid, modality=VISIBLE, camid=1, files=2):
    paths = tuple(f"{pid}/{modality}/{camid}/{n}.jpg" for n in range(files))
    return Tracklet(paths, pid, camid, modality)


def clean():
    return {
        "train": [tracklet(pid, modality) for pid in (1, 2) for modality in (VISIBLE, INFRARED)],
        "query": [tracklet(pid, INFRARED) for pid in (8, 9)],
        "gallery": [tracklet(pid, VISIBLE, 2) for pid in (8, 9)],
    }


def complaints_after(**changes):
    splits = clean()
    for split, more in changes.items():
        splits[split] += more
    return checks.check_labels(splits)


def test_nothing_is_said_about_a_clean_set():
    assert checks.check_labels(clean()) == []


def test_a_person_in_train_and_test_is_told_once_with_both_rows():
    (found,) = complaints_after(gallery=[tracklet(2, camid=7), tracklet(2, camid=8)])
    assert found == (True, "gallery row 2 (2/0/7/0.jpg)", "person 2 is in train too, at row 2")


@pytest.mark.parametrize("name", ["Market1501", "ThinnedDataset", "BalancedDataset"])
def test_a_person_in_train_and_test_is_told_also_of_an_image_set_inside_another(
    name, tmp_path, monkeypatch
):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    train = ("0501_c1s1_000001_01.jpg", "0502_c1s1_000001_01.jpg")
    for folder, files in (
        ("bounding_box_train", train),
        ("query", ("0501_c1s1_000002_01.jpg",)),
        ("bounding_box_test", ("0501_c2s1_000001_01.jpg",)),
    ):
        for file in files:
            path = tmp_path / "Market-1501-v15.09.15" / folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    write_table(tmp_path / MANIFEST, Outcome, [])
    options = ["DATASETS.THINNED.NAME", "Market1501", "DATASETS.BALANCE.DIR", str(tmp_path)]
    data = build_dataset(name, cfg=setup_cfg("", options))
    (found,) = checks.check_labels(read_splits(data))
    assert found.fatal
    assert found.where.startswith("query row 0 ")
    assert found.text == "person 501 is in train too, at row 0"


def test_a_file_in_train_and_test_is_told_whoever_it_shows():
    renamed = clean()["train"][3]._replace(pid=8)
    (found,) = complaints_after(gallery=[renamed._replace(img_paths=renamed.img_paths[1:])])
    assert found == (True, "gallery row 2 (2/1/1/1.jpg)", "the file is in train row 3 too")


def test_a_file_that_shows_two_people_is_told():
    (found,) = complaints_after(gallery=[clean()["gallery"][0]._replace(pid=9)])[:1]
    assert found == (True, "gallery row 2 (8/0/2/0.jpg)", "person 9, but person 8 in gallery row 0")


@pytest.mark.parametrize(
    ("change", "found"),
    [({"camid": 2}, "infrared, camera 2"), ({"modality": VISIBLE}, "visible, camera 1")],
)
def test_a_file_of_two_cameras_or_modalities_is_told(change, found):
    query = clean()["query"][0]
    complaints = complaints_after(gallery=[query._replace(**change)])
    assert complaints[0] == (
        True,
        f"gallery row 2 ({query.img_paths[0]})",
        f"{found}, but infrared, camera 1 in query row 0",
    )
    assert len(complaints) == len(query.img_paths)


def test_a_query_may_lie_in_its_own_gallery():
    assert complaints_after(gallery=[clean()["query"][0]]) == []


def test_a_missing_modality_is_worth_knowing_if_others_have_it():
    (found,) = complaints_after(train=[tracklet(3), tracklet(3, camid=2)])
    assert found == (False, "train row 4 (3/0/1/0.jpg)", "person 3 has no infrared tracklet")
    visible = {split: [tracklet(pid) for pid in (1, 2)] for split in ("train",)}
    assert checks.check_labels(visible | {"query": [], "gallery": []}) == []


def test_a_query_without_a_match_is_worth_knowing():
    (found,) = complaints_after(query=[tracklet(7)])
    assert not found.fatal
    assert found.where == "query row 2 (7/0/1/0.jpg)"


@pytest.mark.parametrize("rest", [{}, {"query": [], "gallery": []}])
def test_one_person_is_too_few_to_train_on(rest):
    splits = clean() | {"train": [tracklet(1)]} | rest
    assert checks.check_labels(splits) == [
        (True, "train", "1 people; expected 2 or more to tell apart")
    ]


def test_a_set_without_people_to_train_on_may_test_and_an_empty_one_is_good_for_nothing():
    splits = clean() | {"train": []}
    assert checks.check_labels(splits) == [
        (False, "train", "nobody to train on: the set only tests")
    ]
    assert checks.check_labels({split: [] for split in splits}) == [
        (True, "train", "0 people; expected 2 or more to tell apart")
    ]


def test_cells_and_lengths_add_up_to_the_set(tree, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tree))
    data = build_dataset("HITSZVCM")
    splits = read_splits(data)
    cells, lengths = checks.count_cells(splits), checks.count_lengths(splits)
    for split, row in zip(SPLITS, lengths, strict=True):
        items = getattr(data, split)
        names = [i._replace(pid=str(i.pid), camid=str(i.camid)) for i in items]
        assert splits[split] == names
        assert row[0] == split and sum(row[1:]) == len(items)
        own = [cell for cell in cells if cell[0] == split]
        assert sum(cell[4] for cell in own) == len(items)
        assert sum(cell[5] for cell in own) == sum(len(item.img_paths) for item in items)
    assert len(checks.bin_names()) == len(lengths[0]) - 1


def test_each_length_falls_into_the_bin_that_names_it():
    splits = {"train": [tracklet(1, files=n) for n in (1, 2, 5, 6, 12, 23, 95, 96, 200)]}
    assert checks.count_lengths(splits) == [["train", 1, 2, 1, 2, 0, 1, 2]]


@pytest.mark.parametrize("workers", [1, 2])
def test_frames_that_cannot_be_used_are_named(tmp_path, workers):
    sizes = {"good": (8 * 3, 48), "wide": (48, 24), "tiny": (8, 16), "square": (24, 24)}
    for name, size in sizes.items():
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    names = [*sizes, "cut", "empty", "gone"]
    files = [str(tmp_path / f"{name}.png") for name in names]
    splits = {"train": [Tracklet(tuple(files[:3]), 1, 1, 0)], "query": []}
    splits["gallery"] = [Tracklet((file,), 2, 1, 0) for file in files[3:]]
    found = checks.check_frames(splits, workers)
    assert [(complaint.fatal, complaint.where) for complaint in found] == [
        (False, f"train row 0 ({files[1]})"),
        (False, f"train row 0 ({files[2]})"),
        (True, f"gallery row 1 ({files[4]})"),
        (True, f"gallery row 2 ({files[5]})"),
        (True, f"gallery row 3 ({files[6]})"),
    ]
    assert found[0].text == "odd size: 48 wide, 24 high"
    assert found[-1].text == "no such frame"


def test_a_sheet_shows_each_split_and_modality_and_survives_a_missing_frame(tmp_path):
    Image.new("RGB", (24, 48), (200, 0, 0)).save(tmp_path / "red.png")
    red = Tracklet((str(tmp_path / "red.png"),) * 3, 1, 1, VISIBLE)
    lost = red._replace(img_paths=("gone.png",), modality=INFRARED)
    heights = []
    for splits in ({"train": [red]}, {"train": [red] * 9 + [lost], "query": [lost], "gallery": []}):
        save_sample_sheet(tmp_path / "sheet.png", splits)
        sheet = Image.open(tmp_path / "sheet.png")
        heights.append(sheet.height)
        assert (200, 0, 0) in {color for _, color in sheet.getcolors(100000)}
    assert (heights[1] - 10) == 3 * (heights[0] - 10)


@pytest.mark.parametrize(("frames", "shown"), [(1, 1), (3, 3), (9, 3)])
def test_a_sheet_shows_an_image_once_and_a_clip_by_three_frames(tmp_path, frames, shown):
    Image.new("RGB", (24, 48), (200, 0, 0)).save(tmp_path / "red.png")
    splits = {"train": [Tracklet((str(tmp_path / "red.png"),) * frames, 1, 1, VISIBLE)]}
    save_sample_sheet(tmp_path / "sheet.png", splits)
    counts = {c: number for number, c in Image.open(tmp_path / "sheet.png").getcolors(100000)}
    assert counts[200, 0, 0] == shown * 48 * 96


@pytest.mark.slow
def test_the_command_passes_a_whole_set_and_fails_a_damaged_one(
    tree, tmp_path, monkeypatch, capsys
):
    shutil.copytree(tree / "HITSZ-VCM", tmp_path / "HITSZ-VCM")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    assert run_tool(monkeypatch, "HITSZVCM", "--workers=1", f"--sheet={tmp_path}/new/s.png") == 0
    printed = capsys.readouterr().out
    assert "HITSZVCM: fit to use" in printed
    assert "train: 1 of 17 tracklets are left out: they have fewer than 12 frames" in printed
    assert Image.open(tmp_path / "new/s.png").width > 500
    lost = tmp_path / "HITSZ-VCM" / "Train" / "0001" / "ir" / "D1" / "1.jpg"
    lost.unlink()
    assert run_tool(monkeypatch, "HITSZVCM", "--workers=1") == 1
    listed = tmp_path / "HITSZ-VCM/info/train_name.txt"
    assert f"{listed}:1 ({lost}): no such frame" in capsys.readouterr().out
    assert run_tool(monkeypatch, "HITSZVCM", "--labels-only") == 0
    assert run_tool(monkeypatch, "HITSZVCM2") == 2
    assert run_tool(monkeypatch, "HITSZVCM", "--workers=0") == 2
    assert "error: --workers 0: expected 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sheet", "expected a file *.png"),
        ("sheet.pgn", "expected a file *.png"),
        ("file/sheet.png", "file is a file; expected a folder"),
        ("folder", "a folder; expected a file *.png"),
    ],
)
def test_a_sheet_that_cannot_be_written_is_told_before_the_set_is_read(
    name, words, tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert run_tool(monkeypatch, "HITSZVCM2", f"--sheet={tmp_path / name}") == 2
    assert words in capsys.readouterr().err


def test_the_command_fails_a_set_in_which_nothing_can_be_searched(tmp_path, monkeypatch, capsys):
    lines = [
        f"{person}-{modality}.jpg,{person},north,{modality},,,{split}"
        for person, split in (("ann", "train"), ("bob", "train"), ("cat", "gallery"))
        for modality in ("visible", "infrared")
    ]
    header = "path,person,camera,modality,tracklet,frame,split"
    (tmp_path / "manifest.csv").write_text("\n".join([header, *lines]))
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    assert run_tool(monkeypatch, "ManifestDataset", "--labels-only") == 1
    assert "query and gallery: nothing can be searched; expected" in capsys.readouterr().out


def test_the_command_takes_options_of_the_data_set(tmp_path, monkeypatch, capsys):
    for person in ("a", "b", "c"):
        (tmp_path / "mine" / person).mkdir(parents=True)
        for camera in (1, 2):
            Image.new("RGB", (24, 48)).save(tmp_path / "mine" / person / f"{camera}_0.png")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    options = ("--workers", "1", "DATASETS.FOLDER.ROOT", "mine")
    assert run_tool(monkeypatch, "FolderDataset", *options) == 0
    assert "gallery" in capsys.readouterr().out


def write_images(folder, splits):
    """A table of visible images, two cameras for each person."""
    lines = [
        f"{person}{camera}.jpg,{person},{camera},visible,,,{split}"
        for person, split in splits
        for camera in ("north", "south")
    ]
    header = "path,person,camera,modality,tracklet,frame,split"
    (folder / "manifest.csv").write_text("\n".join([header, *lines]))


@pytest.mark.parametrize(
    ("splits", "status", "words"),
    [
        ("ann train bob train", 0, "fit to train, not to test"),
        ("cat query dan gallery cat gallery", 0, "fit to test, not to train"),
        ("ann train bob train cat query cat gallery", 0, "fit to use"),
        ("ann train cat query cat gallery", 1, "not fit to use"),
        ("ann train bob train cat query dan gallery", 1, "not fit to use"),
        ("cat query", 1, "not fit to use"),
    ],
)
def test_the_last_line_says_what_a_set_is_fit_for(
    tmp_path, monkeypatch, capsys, splits, status, words
):
    words_of = splits.split()
    write_images(tmp_path, list(zip(words_of[::2], words_of[1::2], strict=True)))
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    assert run_tool(monkeypatch, "ManifestDataset", "--labels-only") == status
    assert capsys.readouterr().out.splitlines()[-1] == f"ManifestDataset: {words}"


@pytest.mark.slow
def test_the_limit_on_pixels_is_that_of_the_config(tmp_path, monkeypatch, capsys):
    write_images(tmp_path, [("ann", "train"), ("bob", "train")])
    for name in ("ann", "bob"):
        for camera in ("north", "south"):
            Image.new("RGB", (24, 48)).save(tmp_path / f"{name}{camera}.jpg")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    limit = ("INPUT.MAX_PIXELS", "1151")
    assert run_tool(monkeypatch, "ManifestDataset", "--workers=1", *limit) == 1
    assert "24 x 48 pixels; expected at most 1151" in capsys.readouterr().out
    assert run_tool(monkeypatch, "ManifestDataset", "--workers=1", limit[0], "1152") == 0
