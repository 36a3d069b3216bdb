"""fastreid's readers, used as they are: what they misread is refused by the file's name."""

import os
import random
from pathlib import Path

import pytest
import torch
from fastreid.data.datasets import DATASET_REGISTRY, Market1501
from fastreid.data.datasets.bases import ImageDataset

from plugins.config import setup_cfg
from plugins.data import build_dataset, build_test_loader, checks
from plugins.data.datasets import ImageSet
from plugins.data.datasets.fastreid_sets import check_names
from plugins.data.datasets.splits import read_splits
from plugins.errors import InputError
from plugins.registry import DATASET
from tests.helpers.fastreid_trees import MARKET, TREES, write_fastreid
from tests.helpers.hitsz_tree import write_frame
from tests.helpers.trees import run_tool

TRAIN = {
    "Market1501": f"{MARKET}/bounding_box_train",
    "DukeMTMC": "DukeMTMC-reID/bounding_box_train",
    "VeRi": "veri/image_train",
}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    return tmp_path


def refusal(name, **options):
    with pytest.raises(InputError) as caught:
        build_dataset(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "file", "said", "taken"),
        [
            ("Market1501", "0002_c10s1_1.jpg", "person 2, camera 10", "person 2, camera 1"),
            ("DukeMTMC", "0002_c12_f01.jpg", "person 2, camera 12", "person 2, camera 1"),
            ("VeRi", "0002_c0011_1_0.jpg", "person 2, camera 11", "person 2, camera 1"),
            ("Market1501", "A0012_c1s1_1.jpg", "neither", "person 12, camera 1"),
        ],
    )
    @pytest.mark.parametrize("combineall", [False, True])
    def test_a_name_that_the_pattern_half_reads_is_refused(
        self, root, name, file, said, taken, combineall
    ):
        """Camera 10 as camera 1: a query no longer sees its own person, Rank-1 falls to 0."""
        write_fastreid(root, name)
        build_dataset(name, combineall=combineall)
        path = root / TRAIN[name] / file
        path.touch()
        message = refusal(name, combineall=combineall)
        assert message.startswith(
            f"{path}: its name says {said}, but fastreid's reader takes {taken}; expected a name "
        )

    @pytest.mark.parametrize("part", ["query", "bounding_box_test"])
    def test_test_items_are_looked_at_too(self, root, part):
        write_fastreid(root, "Market1501")
        (root / MARKET / part / "0501_c11s1_1.jpg").touch()
        assert f"{part}/0501_c11s1_1.jpg: its name says person 501, camera 11" in refusal(
            "Market1501"
        )

    def test_a_folder_that_is_named_like_an_image_is_not_read_as_one(self, root, monkeypatch):
        """The pattern is looked for in the whole path: everybody would be person 7, camera 3."""
        top = root / "7_c3"
        write_fastreid(top, "DukeMTMC")
        monkeypatch.setenv("FASTREID_DATASETS", str(top))
        message = refusal("DukeMTMC")
        assert "0002_c1_f01.jpg: its name says person 2, camera 1, but" in message
        assert "takes person 7, camera 3" in message

    def test_words_before_the_person_are_allowed_and_junk_is_none(self, root):
        write_fastreid(root, "Market1501")
        for name in ("img_0004_c2s1_1.jpg", "-1_c2s1_1.jpg", "0000_c6s1_1.jpg"):
            (root / MARKET / "bounding_box_test" / name).touch()
        assert len(build_dataset("Market1501").gallery) == 3

    def test_a_user_who_reads_names_otherwise_is_left_alone(self, root, monkeypatch):
        class Wide(Market1501):
            def process_dir(self, dir_path, is_train=True):
                return [(str(Path(dir_path, "0002_c10s1_1.jpg")), 2, 9)]

        write_fastreid(root, "Market1501")
        monkeypatch.setitem(DATASET._obj_map, "Wide", Wide)
        assert build_dataset("Wide").query[0][2] == 9

        class Same(Market1501):
            pass

        (root / MARKET / "query" / "0501_c11s1_1.jpg").touch()
        with pytest.raises(InputError, match="camera 11"):
            check_names(Same(root=str(root)))

    def test_what_is_listed_is_as_fastreid_lists_it(self, root):
        write_fastreid(root, "Market1501")
        data, own = build_dataset("Market1501"), DATASET_REGISTRY.get("Market1501")(str(root))
        for split in ("train", "query", "gallery"):
            assert getattr(data, split) == sorted(getattr(own, split))


class TestReasons:
    @pytest.mark.parametrize(
        ("name", "file", "reason"),
        [
            ("Market1501", "1502_c1s1_1.jpg", "pid is 1502, expected 0 <= pid <= 1501"),
            ("Market1501", "0003_c9s1_1.jpg", "camid is 9, expected 1 <= camid <= 6"),
            ("DukeMTMC", "0003_c9_f01.jpg", "camid is 9, expected 1 <= camid <= 8"),
            ("VeRi", "0777_c001_1_0.jpg", "pid is 777, expected 0 <= pid <= 776"),
            (
                "Market1501",
                "portrait.jpg",
                "the reader's pattern of a person and a camera does",
            ),
            (
                "Market1501",
                "x_c1s1_1.jpg",
                "the reader's pattern of a person and a camera does",
            ),
            ("DukeMTMC", "x_c1_f01.jpg", "the reader's pattern of a person and a camera does"),
            ("VeRi", "x_c001_1_0.jpg", "the reader's pattern of a person and a camera does"),
            ("Market1501", "1-2_c1s1_1.jpg", "ValueError: invalid literal for int()"),
        ],
    )
    def test_the_file_and_the_reason_are_told(self, root, name, file, reason):
        write_fastreid(root, name)
        path = root / TRAIN[name] / file
        path.touch()
        message = refusal(name)
        assert f"{name}: a file in '{root}' is not named as this set names its images: " in message
        assert f"{path}: {reason}" in message
        assert "AttributeError" not in message

    @pytest.mark.parametrize(
        ("name", "file", "line"),
        [
            ("MSMT17", "MSMT17_V1/list_gallery.txt", "0000/x.jpg 0"),
            ("MSMT17", "MSMT17_V1/list_train.txt", ""),
            ("VehicleID", "vehicleid/train_test_split/train_list.txt", "12"),
            ("VeRiWild", "VERI-Wild/train_test_split/test_10000.txt", "2/99.jpg"),
            ("VeRiWild", "VERI-Wild/train_test_split/vehicle_info.txt", "nothing"),
            ("AirportALERT", "AirportALERT/filepath.txt", "cam1"),
        ],
    )
    def test_the_line_of_a_list_is_told(self, root, name, file, line):
        tree = write_fastreid(root, name)
        text = tree.lists[file]
        (root / file).write_text(f"{text}{line}\n")
        assert f": {root / file}:{text.count(chr(10)) + 1}: " in refusal(name)

    def test_a_list_that_is_not_utf_8_is_one_short_line(self, root):
        """The exception itself holds the whole file."""
        tree = write_fastreid(root, "MSMT17")
        path = root / "MSMT17_V1/list_query.txt"
        path.write_bytes(tree.lists["MSMT17_V1/list_query.txt"].encode() * 500 + b"\xe9 0\n")
        message = refusal("MSMT17")
        assert f": {path}:501: byte 1 of the line, 0xe9, is not UTF-8" in message
        assert len(message) < 400

    @pytest.mark.parametrize("part", ["bounding_box_train", "query"])
    def test_a_missing_folder_is_told(self, root, part):
        write_fastreid(root, "Market1501")
        os.rename(root / MARKET / part, root / "gone")
        assert f"{root}/{MARKET}: it lacks {part}" in refusal("Market1501")


def test_a_reader_that_draws_draws_the_same_in_every_process(root):
    """VehicleID takes one item of each car for the gallery, from the global generator."""
    tree = write_fastreid(root, "VehicleID")
    lines = "".join(f"{image} {image // 4}\n" for image in range(400, 480))
    (root / "vehicleid/train_test_split/test_list_13164.txt").write_text(lines)
    assert tree.lists
    reads = []
    for seed in (1, 2):
        random.seed(seed)
        state = random.getstate()
        reads.append([item[0] for item in build_dataset("VehicleID").gallery])
        assert random.getstate() == state
    assert reads[0] == reads[1] and len(reads[0]) == 20


class Worded(ImageDataset):
    """A user's reader: people and cameras are text, in training and test."""

    dataset_name = "worded"
    text = (str, str)

    def __init__(self, root="datasets", **kwargs):
        person, camera = self.text
        sides = []
        for people in (("ann", "bob"), ("dan", "cyd"), ("dan", "cyd")):
            items = []
            for name in people:
                for place in ("south", "north")[:: -1 if len(sides) == 1 else 1][: 3 - len(sides)]:
                    path = Path(root, f"{name}_{place}_{len(sides)}.jpg")
                    items.append((str(path), person(name), camera(place)))
            sides.append(items)
        super().__init__(*sides, **kwargs)


class TestText:
    """People or cameras of the test that are text are numbered as in training, before epoch 0."""

    @pytest.fixture(autouse=True)
    def worded(self, root, monkeypatch):
        monkeypatch.setitem(DATASET._obj_map, "Worded", Worded)
        for path, *_ in (*Worded(root).train, *Worded(root).query, *Worded(root).gallery):
            write_frame(Path(path), seed=len(path))

    def cfg(self):
        cfg = setup_cfg("", ["DATASETS.NAMES", "('Worded',)", "DATASETS.TESTS", "('Worded',)"])
        cfg.MODEL.DEVICE = "cpu"
        cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [16, 8]
        cfg.DATALOADER.NUM_WORKERS = 0
        return cfg

    def test_a_batch_holds_numbers_in_sorted_order(self, root):
        loader, data = build_test_loader(self.cfg(), "Worded")
        (batch,) = loader
        assert batch["targets"].dtype == batch["camids"].dtype == torch.int64
        names = [Path(path).stem.split("_")[:2] for path in batch["img_paths"]]
        people, cameras = ["cyd", "dan"], ["north", "south"]
        assert batch["targets"].tolist() == [people.index(person) for person, _ in names]
        assert batch["camids"].tolist() == [cameras.index(camera) for _, camera in names]
        assert (data.people, data.cameras) == (people, cameras)

    def test_one_of_the_two_may_be_numbers_and_stays(self, root, monkeypatch):
        monkeypatch.setattr(Worded, "text", (lambda name: {"dan": 70, "cyd": 7}.get(name, 1), str))
        data = build_dataset("Worded")
        assert [item[1] for item in data.query] == [7, 7, 70, 70]
        assert data.people == [] and data.cameras == ["north", "south"]

    def test_a_check_shows_their_own_names_and_finds_who_is_in_both(
        self, root, monkeypatch, capsys
    ):
        assert run_tool(monkeypatch, "Worded", "--labels-only") == 0
        assert "north" in capsys.readouterr().out
        monkeypatch.setattr(Worded, "text", (lambda name: name.replace("cyd", "ann"), str))
        (leak,) = [c for c in checks.check_labels(read_splits(build_dataset("Worded"))) if c[0]]
        assert leak.text == "person ann is in train too, at row 0"

    @pytest.mark.parametrize(
        "mixed", [lambda name: 4 if name == "cyd" else name, lambda name: None]
    )
    def test_a_mixture_is_refused_with_both(self, root, monkeypatch, mixed):
        monkeypatch.setattr(Worded, "text", (mixed, str))
        assert "expected all persons of a list to be numbers, or all text" in refusal("Worded")

    def test_paths_may_be_path_objects(self, root):
        data = Worded(root)
        data._train = [(Path(path), *labels) for path, *labels in data.train]
        assert ImageSet(data).train == sorted(Worded(root).train)


@pytest.mark.slow
def test_every_tree_is_read(root):
    for name in TREES:
        write_fastreid(root, name)
    for name in TREES:
        assert isinstance(build_dataset(name), ImageSet)
