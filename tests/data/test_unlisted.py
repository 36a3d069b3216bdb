"""Pictures that no list of a set holds: counted by check_data.py, warned of by a run."""

import logging
import os
import shutil
from pathlib import Path

import pytest
from fastreid.data.datasets.bases import ImageDataset
from hypothesis import given
from hypothesis import strategies as st

from plugins.config import setup_cfg
from plugins.data import build_dataset, build_test_loader, checks
from plugins.data.datasets import BUPTCampus, FolderDataset, ReidDataset
from plugins.data.datasets import unlisted as unlisted_module
from plugins.data.datasets.build import training_items
from plugins.data.datasets.unlisted import (
    Folders,
    describe_unlisted,
    find_unlisted,
    folders_around,
    warn_of_unlisted,
)
from plugins.errors import InputError
from plugins.registry import DATASET
from tests.helpers.fastreid_trees import MARKET, TREES, VARIANTS, fastreid_names, write_fastreid
from tests.helpers.trees import SETS, run_tool, write_people

# A picture that each of our sets should tell, below its folder of all data sets.
OURS = {
    "HITSZVCM": "HITSZ-VCM/Train/0001/ir/D1/99.jpg",
    "BUPTCampus": "BUPTCampus/DATA/1/RGB/LS3/99.jpg",
    "SYSUMM01": "SYSU-MM01/cam1/0099/0001.jpg",
    "RegDB": "RegDB/Visible/5/new.bmp",
    "LLCM": "LLCM/vis/0010/0010_c01_s9_f9_vis.jpg",
    "ManifestDataset": "a/99.jpg",
}
# Pictures that a set leaves out by its own rules.
KNOWN = {
    "HITSZVCM": ("HITSZ-VCM/info/figure.png",),
    "BUPTCampus": ("BUPTCampus/DATA/1/FakeIR/LS3/1.jpg", "BUPTCampus/figure.png"),
    "SYSUMM01": ("SYSU-MM01/exp/figure.png",),
    "LLCM": ("LLCM/test_vis/cam1/0003/0003_c01_s100656_f1_vis.jpg",),
    "ManifestDataset": ("figure.png", "HITSZ-VCM/Train/0001/ir/D1/1.jpg"),
}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    monkeypatch.setattr(unlisted_module, "_searched", set())
    return tmp_path


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def unlisted(name, **options):
    cfg = setup_cfg("", [word for pair in options.items() for word in pair])
    return find_unlisted(build_dataset(name, cfg=cfg).folders())


def test_every_set_of_fastreid_has_a_tree():
    assert fastreid_names() == set(TREES) | VARIANTS


@pytest.mark.parametrize("name", TREES)
def test_a_whole_set_of_fastreid_is_silent_and_a_lost_picture_is_told(root, name):
    tree = write_fastreid(root, name)
    data = build_dataset(name)
    found = {item[0] for item in (*data.train, *data.query, *data.gallery)}
    assert found == {str(root / file) for file in tree.listed}
    assert find_unlisted(data.folders()) == []
    write_fastreid(root, name, lost=True)
    assert unlisted(name) == sorted(str(root / file) for file in tree.lost)


@pytest.mark.parametrize("name", SETS)
def test_a_whole_set_of_ours_is_silent_and_a_lost_picture_is_told(root, name, monkeypatch):
    write, below = SETS[name]
    write(root)
    top = root / below
    monkeypatch.setenv("FASTREID_DATASETS", str(top))
    for file in KNOWN.get(name, ()):
        touch(top / file)
    assert unlisted(name) == []
    touch(top / OURS[name])
    assert unlisted(name) == [str(top / OURS[name])]


def test_tracklets_that_are_too_short_are_no_loss(root):
    """They are told already, by their own number."""
    SETS["HITSZVCM"][0](root)
    data = build_dataset("HITSZVCM")
    assert sum(len(item.img_paths) for item in data.train) < len(list(root.rglob("Train/**/*.jpg")))
    assert find_unlisted(data.folders()) == []


def test_what_an_option_leaves_out_is_no_loss(root, monkeypatch):
    SETS["SYSUMM01"][0](root)
    for option, value in (("MODE", "indoor"), ("SHOT", "10")):
        assert unlisted("SYSUMM01", **{f"DATASETS.SYSU.{option}": value}) == []
    SETS["RegDB"][0](root)
    assert unlisted("RegDB", **{"DATASETS.REGDB.TRIAL": "2"}) == []


@pytest.mark.parametrize("auxiliary", [False, True])
def test_rows_that_are_not_asked_for_are_no_loss(root, auxiliary):
    folder = SETS["BUPTCampus"][0](root)
    data = BUPTCampus(root=str(folder.parent), dataset_dir=folder.name, auxiliary=auxiliary)
    for file in BUPTCampus(str(folder.parent), dataset_dir=folder.name).folders().listed:
        touch(Path(file))
    assert find_unlisted(data.folders()) == []


@pytest.mark.parametrize("outer", ["ThinnedDataset", "HeldOutPeople"])
def test_a_set_around_another_tells_of_that(root, outer):
    tree = write_fastreid(root, "Market1501", lost=True)
    for person in range(4, 12):  # enough people to hold some out
        for camera in (1, 2):
            touch(root / MARKET / "bounding_box_train" / f"{person:04d}_c{camera}s1_1.jpg")
            touch(root / MARKET / "bounding_box_train" / f"{person:04d}_c{camera}s1_2.jpg")
    options = {
        "DATASETS.THINNED.NAME": "Market1501",
        "DATASETS.HELD_OUT.NAME": "Market1501",
        "DATASETS.HELD_OUT.PEOPLE": "3",
    }
    assert unlisted(outer, **options) == sorted(str(root / file) for file in tree.lost)


class TestReaderOfAUser:
    """One that fastreid's documentation would make: Market-1501's attributes, own patterns."""

    def register(self, monkeypatch, attribute):
        class MyPeople(ImageDataset):
            dataset_name = "mine"

            def __init__(self, root="datasets", **kwargs):
                folder = os.path.join(root, "mine")
                setattr(self, attribute, folder)
                paths = sorted(Path(folder).glob("*.jpg"))
                items = [(str(path), f"mine_{path.stem}", "mine_0") for path in paths]
                super().__init__(items, [], [], **kwargs)

        monkeypatch.setitem(DATASET._obj_map, "MyPeople", MyPeople)

    @pytest.mark.parametrize(
        ("attribute", "below"), [("train_dir", True), ("train_path", True), ("place", False)]
    )
    def test_its_folders_are_known_by_usual_attributes_or_by_its_files(
        self, root, monkeypatch, attribute, below
    ):
        self.register(monkeypatch, attribute)
        for name in ("1.jpg", "2.png", "more/3.jpg"):
            touch(root / "mine" / name)
        lost = ["2.png", "more/3.jpg"] if below else ["2.png"]
        assert unlisted("MyPeople") == [str(root / "mine" / name) for name in lost]


def test_a_set_that_says_nothing_is_searched_around_its_files(root):
    class Silent(ReidDataset):
        pass

    for name in ("a/1.jpg", "a/2.jpg", "a/below/3.jpg", "b/4.jpg"):
        touch(root / name)
    data = Silent([], [], [])
    data.train = [((str(root / "a/1.jpg"),), 0, 0, 0)]
    assert find_unlisted(data.folders()) == [str(root / "a/2.jpg")]


class TestFind:
    @pytest.mark.slow
    @given(
        st.dictionaries(st.sampled_from(["a", "b", "a/c"]), st.sets(st.sampled_from("12345"))),
        st.sets(st.sampled_from(["a/1", "a/2", "b/3", "a/c/4"])),
    )
    def test_it_is_the_difference_of_two_sets(self, tmp_path_factory, there, listed):
        top = tmp_path_factory.mktemp("tree")
        there = {f"{folder}/{name}" for folder, names in there.items() for name in names}
        for file in there:
            touch(top / f"{file}.jpg")
        files = [f"{top}/{file}.jpg" for file in listed]
        found = find_unlisted(Folders((str(top),), files))
        assert found == sorted(f"{top}/{file}.jpg" for file in there - listed)

    def test_paths_are_compared_by_what_they_mean(self, root, monkeypatch):
        touch(root / "a" / "1.jpg")
        monkeypatch.chdir(root)
        (root / "link").symlink_to("a")
        for listed in ("a/1.jpg", "a/../a/1.jpg", f"{root}//a/1.jpg", "link/1.jpg"):
            assert find_unlisted(Folders(("a", "link"), [listed])) == []

    def test_a_link_to_a_folder_above_ends(self, root):
        touch(root / "a" / "1.jpg")
        (root / "a" / "up").symlink_to(root)
        assert find_unlisted(Folders((str(root),), ())) == [str(root / "a/1.jpg")]

    def test_a_linked_folder_is_searched(self, root):
        touch(root / "elsewhere" / "1.jpg")
        (root / "set").mkdir()
        (root / "set" / "ann").symlink_to(root / "elsewhere")
        assert find_unlisted(Folders((str(root / "set"),), ())) == [str(root / "set/ann/1.jpg")]

    def test_what_is_no_picture_is_passed_over(self, root):
        for name in ("Thumbs.db", "readme.txt", "a.mat", ".DS_Store", "._1.jpg", ".dot/1.jpg"):
            touch(root / name)
        assert find_unlisted(Folders((str(root),), ())) == []

    @pytest.mark.parametrize("name", ["1.JPG", "1.webp", "1.heic", "1.mp4", "1.jpg.part", "1.gif"])
    def test_what_was_to_be_a_picture_is_told(self, root, name):
        touch(root / name)
        assert find_unlisted(Folders((str(root),), ())) == [str(root / name)]

    def test_a_missing_folder_holds_nothing(self, root):
        assert find_unlisted(Folders((str(root / "gone"),), ["gone/1.jpg"])) == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
    def test_a_folder_that_cannot_be_read_is_an_error(self, root):
        (root / "closed").mkdir(mode=0)
        with pytest.raises(InputError, match="closed: cannot be listed: Permission denied"):
            find_unlisted(Folders((str(root),), ()))

    def test_around_files_means_not_below(self, root):
        touch(root / "a" / "below" / "1.jpg")
        assert find_unlisted(folders_around([str(root / "a" / "2.jpg")])) == []


def test_the_sentence_counts_and_names():
    files = [f"a/{number}.png" for number in range(12)] + ["b/1.JPG"]
    assert describe_unlisted(files) == (
        "no list holds 13 of the pictures in its folders (12 *.png, 1 *.JPG), such as a/0.png, "
        "a/1.png, a/2.png"
    )


class TestRun:
    def warnings(self, caplog):
        return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]

    def market(self, root):
        write_fastreid(root, "Market1501", lost=True)
        return setup_cfg("", ["DATASETS.NAMES", "('Market1501',)", "MODEL.DEVICE", "cpu"])

    def test_it_warns_once_though_it_reads_the_set_often(self, root, caplog):
        cfg = self.market(root)
        for _ in range(2):
            training_items(cfg)
            build_test_loader(cfg, "Market1501")
        (warning,) = self.warnings(caplog)
        assert warning.startswith("Market1501: no list holds 4 of the pictures in its folders (")
        assert f"such as {root}/{MARKET}/bounding_box_test/0502/0502_c2s1_1.jpg, " in warning

    def test_a_whole_set_is_silent(self, root, caplog):
        write_fastreid(root, "Market1501")
        training_items(setup_cfg("", ["DATASETS.NAMES", "('Market1501',)"]))
        assert self.warnings(caplog) == []

    @pytest.mark.parametrize("name", ["HITSZVCM", "BUPTCampus", "RegDB", "LLCM", "MSMT17"])
    def test_it_does_not_walk_where_lists_name_the_files(self, root, name, monkeypatch, caplog):
        """Half a million files of HITSZ-VCM, maybe on a slow disk, which nobody else looks for."""
        if name in SETS:
            write, below = SETS[name]
            write(root)
            monkeypatch.setenv("FASTREID_DATASETS", str(root / below))
            touch(root / below / OURS[name])
        else:
            write_fastreid(root, name, lost=True)
        data = build_dataset(name)
        monkeypatch.setattr(os, "walk", lambda *args, **kwargs: pytest.fail("it walked"))
        warn_of_unlisted(data, name)
        assert self.warnings(caplog) == []
        monkeypatch.undo()
        assert checks.check_unlisted(data)

    def test_a_set_without_one_listed_picture_is_told_to_train_on_nothing(self, root, caplog):
        for file in TREES["Market1501"].listed:
            touch((root / file).with_suffix(".png"))
        with pytest.raises(InputError, match="it has no training items") as caught:
            training_items(setup_cfg("", ["DATASETS.NAMES", "('Market1501',)"]))
        assert "no list holds 3 of the pictures in its folders (3 *.png)" in str(caught.value)


class TestCheckData:
    def test_a_pattern_that_passes_over_pictures_makes_a_set_unfit(self, root, monkeypatch, capsys):
        """Half of the people end in .png: Rank-1 100 on the rest, and "fit to use"."""
        write_fastreid(root, "Market1501")
        for person in (3, 502):
            part = "bounding_box_train" if person == 3 else "query"
            touch(root / MARKET / part / f"{person:04d}_c1s1_1.png")
        touch(root / MARKET / "bounding_box_train" / "0004_c1s1_1.jpg")
        assert run_tool(monkeypatch, "Market1501", "--labels-only") == 1
        printed = capsys.readouterr().out
        words = "folders: no list holds 2 of the pictures in its folders (2 *.png), such as "
        assert f"{words}{root}" in printed
        assert printed.endswith("Market1501: not fit to use\n")

    def test_what_lists_leave_out_is_worth_knowing(self, root, monkeypatch, capsys):
        SETS["RegDB"][0](root)
        touch(root / OURS["RegDB"])
        assert run_tool(monkeypatch, "RegDB", "--labels-only") == 0
        printed = capsys.readouterr().out
        assert "no list holds 1 of the pictures in its folders (1 *.bmp)" in printed
        assert printed.endswith("RegDB: fit to use\n")


class TestFolderDataset:
    def test_what_pillow_reads_safely_is_read(self, root):
        folder = write_people(root / "people")
        names = ("01_a.webp", "01_b.tif", "01_c.TIFF", "01_d.jfif", "01_e.jpe", "01_f.BMP")
        before = build_dataset("FolderDataset")
        for name in names:
            touch(folder / "cy" / name)
        data = build_dataset("FolderDataset")
        assert len(data.query) == len(before.query) + len(names)
        assert find_unlisted(data.folders()) == []

    def test_a_folder_for_each_camera_means_the_same_as_names(self, root):
        """``<person>/<camera>/<picture>``, as trackers and WARD write it."""
        by_name = write_people(root / "by name")
        by_folder = root / "by folder"
        for file in by_name.rglob("*.png"):
            camera, name = file.name.split("_")
            target = by_folder / file.parent.name / camera / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        first, second = (
            FolderDataset(root=str(root), dataset_dir=folder.name)
            for folder in (by_name, by_folder)
        )
        for split in ("train", "query", "gallery"):
            labels = [item[1:] for item in getattr(first, split)]
            assert labels and labels == [item[1:] for item in getattr(second, split)]
        assert find_unlisted(second.folders()) == []

    def test_both_ways_may_be_mixed_and_share_cameras(self, root):
        folder = write_people(root / "people")
        touch(folder / "cy" / "02" / "x.png")
        data = FolderDataset(root=str(root))
        assert (f"{folder}/cy/02/x.png", 2, 1) in data.gallery

    def test_what_is_skipped_is_counted_and_named(self, root):
        folder = write_people(root / "people")
        lost = ["ann.jpg", "ann/01/deep/1.jpg", "bob/01_9.heic", "bob/01_walk.mp4"]
        for name in lost:
            touch(folder / name)
        (folder / "bob" / "notes.txt").touch()
        assert unlisted("FolderDataset") == [str(folder / name) for name in lost]

    @pytest.mark.slow
    def test_a_folder_of_nothing_else_says_what_is_there(self, root):
        touch(root / "people" / "ann" / "01" / "deep" / "1.jpg")
        with pytest.raises(
            InputError, match=r"no pictures there that fit .*; no list holds 1 .*deep/1\.jpg"
        ):
            FolderDataset(root=str(root))
