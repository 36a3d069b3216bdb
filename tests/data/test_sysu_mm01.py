import os
import random
import shutil

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from plugins.config import setup_cfg
from plugins.data import build_dataset, build_test_loader, build_train_loader
from plugins.data.datasets import INFRARED, SYSUMM01
from plugins.data.datasets.splits import warn_of_faults
from plugins.errors import InputError
from tests.helpers.image_trees import SYSU_COUNTS, write_permutations, write_sysu
from tests.helpers.trees import run_tool

GALLERY = {"all": (1, 2, 4, 5), "indoor": (1, 2)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A set in a folder whose name has what other readers search paths for."""
    root = tmp_path_factory.mktemp("cam5 data")
    write_sysu(root)
    return root


def read(root, **options):
    return SYSUMM01(root=str(root), **options)


def galleries(data):
    """Paths of each trial's gallery."""
    items = [*data.query, *data.gallery]
    (protocol,) = data.directions().values()
    return [[items[row].img_paths[0] for row in trial.gallery] for trial in protocol.trials]


def refusal(root, **options):
    with pytest.raises(InputError) as caught:
        read(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_train_and_val_people_train_and_each_image_is_a_tracklet_of_one_frame(root):
    data = read(root)
    assert {image.pid for image in data.train} == {2, 7, 30}
    assert len(data.train) == sum(n for (_, p), n in SYSU_COUNTS.items() if p in (2, 7, 30))
    assert len(data.query) == 2 + 3 + 2 + 2
    assert len(data.gallery) == 12 + 11 + 4 + 5 + 6 + 13
    for image in [*data.train, *data.query, *data.gallery]:
        (path,) = image.img_paths
        camera, person, _ = path.split("/")[-3:]
        assert (camera, person) == (f"cam{image.camid}", f"{image.pid:04d}")
        assert image.modality == (image.camid in (3, 6))
    assert {image.modality for image in data.query} == {INFRARED}


def test_combineall_trains_on_the_images_of_all_cameras_in_both_modes(root):
    trained = [read(root, combineall=True, mode=mode).train for mode in GALLERY]
    assert trained[0] == trained[1]
    assert len(trained[0]) == sum(SYSU_COUNTS.values())


@pytest.mark.parametrize(("mode", "shot"), [(m, s) for m in GALLERY for s in (1, 10)])
def test_the_official_draw_takes_the_first_entries_of_a_trials_row(root, mode, shot):
    folder = root / "SYSU-MM01"
    table = loadmat(folder / "exp" / "rand_perm_cam.mat")["rand_perm_cam"]
    data = read(root, mode=mode, shot=shot)
    found = galleries(data)
    assert list(data.directions()) == [f"I2V {mode} {shot}-shot official-draw"]
    assert len(found) == 10
    for trial, gallery in enumerate(found):
        expected = [
            str(folder / f"cam{camera}" / f"{person:04d}" / f"{number:04d}.jpg")
            for person in (3, 4, 112)
            for camera in GALLERY[mode]
            for number in table[camera - 1, 0][person - 1, 0][trial][:shot]
        ]
        assert gallery == expected


@pytest.mark.parametrize("mode", GALLERY)
def test_the_seeded_draw_is_that_of_the_global_generator(root, mode):
    folder = root / "SYSU-MM01"
    expected, before = [], random.getstate()
    for trial in range(10):
        random.seed(trial)
        gallery = []
        for person in ("0003", "0004", "0112"):
            for camera in GALLERY[mode]:
                place = folder / f"cam{camera}" / person
                if place.is_dir():
                    gallery.append(random.choice(sorted(f"{place}/{n}" for n in os.listdir(place))))
        expected.append(gallery)
    random.setstate(before)

    data = read(root, mode=mode, draw="seeded")

    assert galleries(data) == expected
    assert list(data.directions()) == [f"I2V {mode} 1-shot seeded-draw"]
    assert random.getstate() == before


def test_the_draws_differ_and_so_do_the_trials(root):
    official, seeded = (galleries(read(root, draw=draw)) for draw in ("official", "seeded"))
    assert all(one != other for one, other in zip(official, seeded, strict=True))
    assert len({tuple(gallery) for gallery in seeded}) == 10


def test_rules_and_queries_are_those_of_sysu_in_both_modes(root):
    for mode in GALLERY:
        data = read(root, mode=mode)
        (protocol,) = data.directions().values()
        assert (protocol.junk, protocol.cmc) == ("sysu", "identity")
        for trial in protocol.trials:
            assert trial.query.dtype == trial.gallery.dtype == np.int64
            assert trial.query.tolist() == list(range(len(data.query)))


def test_the_seeded_draw_needs_no_permutations(tmp_path):
    folder = write_sysu(tmp_path)
    (folder / "exp" / "rand_perm_cam.mat").unlink()
    assert len(galleries(read(tmp_path, draw="seeded"))) == 10
    message = refusal(tmp_path)
    assert str(folder / "exp" / "rand_perm_cam.mat") in message
    assert "https://github.com/wuancong/SYSU-MM01" in message


def test_the_permutations_may_lie_in_data_split(tmp_path):
    folder = write_sysu(tmp_path)
    expected = galleries(read(tmp_path))
    (folder / "data_split").mkdir()
    (folder / "exp" / "rand_perm_cam.mat").rename(folder / "data_split" / "rand_perm_cam.mat")
    assert galleries(read(tmp_path)) == expected


@pytest.mark.parametrize("draw", ["official", "seeded"])
def test_stray_files_change_no_draw(tmp_path, draw):
    folder = write_sysu(tmp_path)
    expected = galleries(read(tmp_path, draw=draw))
    (folder / "cam1" / "0003" / "Thumbs.db").touch()
    (folder / "cam2" / "0003" / ".DS_Store").touch()
    assert galleries(read(tmp_path, draw=draw)) == expected


@pytest.mark.parametrize("name", ["1.jpg", "00001.jpg", "0001.jpeg", "0001.JPG", "0001.png"])
def test_an_image_of_another_name_is_refused(tmp_path, name):
    folder = write_sysu(tmp_path)
    (folder / "cam1" / "0003" / name).touch()
    assert f"cam1/0003/{name}: expected four digits" in refusal(tmp_path)


def test_a_lost_image_is_noticed_by_the_official_draw(tmp_path):
    folder = write_sysu(tmp_path)
    (folder / "cam4" / "0003" / "0002.jpg").unlink()
    message = refusal(tmp_path)
    assert "camera 4, person 3: found a table of shape (10, 4), expected 10 trials of 3" in message


@pytest.mark.parametrize(
    ("draw", "lost", "expected"),
    [
        ("official", "cam3", "4 folders have fewer images than the table has numbers, such as "
         "cam3/0002: 0, expected 2"),
        ("official", "cam4", "3 folders have fewer images than the table has numbers, such as "
         "cam4/0003: 0, expected 4"),
        ("official", "cam4/0003", "1 folders have fewer images than the table has numbers, such as "
         "cam4/0003: 0, expected 4"),
        ("official", "cam3/0003/0002.jpg", "such as cam3/0003: 1, expected 2"),
        ("official", "cam1/0002/0003.jpg", "such as cam1/0002: 2, expected 3"),
        ("seeded", "cam4/0003", "such as cam4/0003: 0, expected 4"),
        ("seeded", "cam1/0003/0012.jpg", "such as cam1/0003: 11, expected 12"),
    ],
)  # fmt: skip
def test_images_that_the_permutations_have_and_the_folder_lacks_make_the_set_unfit(
    tmp_path, monkeypatch, capsys, caplog, draw, lost, expected
):
    folder = write_sysu(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    words = ("SYSUMM01", "--labels-only", "DATASETS.SYSU.DRAW", draw)
    assert run_tool(monkeypatch, *words) == 0
    assert "fewer images" not in capsys.readouterr().out
    (shutil.rmtree if (folder / lost).is_dir() else os.remove)(folder / lost)
    assert run_tool(monkeypatch, *words) == 1
    assert f"{expected}; copy the data set again" in capsys.readouterr().out
    for _ in range(2):
        warn_of_faults(read(tmp_path, draw=draw), "SYSUMM01")
    (warning,) = caplog.messages
    assert warning.startswith("SYSUMM01: rand_perm_cam.mat: ") and expected in warning


def test_the_seeded_draw_reads_beside_damaged_permutations(tmp_path):
    folder = write_sysu(tmp_path)
    (folder / "exp" / "rand_perm_cam.mat").write_bytes(b"no table")
    data = read(tmp_path, draw="seeded")
    assert len(galleries(data)) == 10 and not data.faults


@pytest.mark.parametrize("people", [3, 111])
def test_permutations_without_a_test_person_are_refused(tmp_path, people):
    folder = write_sysu(tmp_path)
    write_permutations(folder / "exp" / "rand_perm_cam.mat", SYSU_COUNTS, people)
    assert "found a table of shape (10, 0)" in refusal(tmp_path)


def test_a_table_that_is_no_permutation_is_refused(tmp_path):
    folder = write_sysu(tmp_path)
    path = folder / "exp" / "rand_perm_cam.mat"
    table = loadmat(path)["rand_perm_cam"]
    table[0, 0][2, 0][4, 0] = 99
    savemat(path, {"rand_perm_cam": table})
    assert "camera 1, person 3: not a permutation" in refusal(tmp_path)


def test_cut_off_permutations_are_named_wherever_they_are_cut(tmp_path):
    path = write_sysu(tmp_path) / "exp" / "rand_perm_cam.mat"
    whole = path.read_bytes()
    for size in [0, 1, 127, 128, 130, 200, *np.random.default_rng(0).integers(len(whole), size=9)]:
        path.write_bytes(whole[:size])
        assert str(path) in refusal(tmp_path)


@pytest.mark.parametrize("damage", ["no mat file", "another variable", "another shape"])
def test_a_damaged_mat_file_is_named(tmp_path, damage):
    path = write_sysu(tmp_path) / "exp" / "rand_perm_cam.mat"
    if damage == "no mat file":
        path.write_bytes(b"<html>not found</html>" * 20)
    else:
        name = "id" if damage == "another variable" else "rand_perm_cam"
        savemat(path, {name: np.ones((6, 1))})
    assert str(path) in refusal(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("train_id.txt", "30;2", "1: number 1 is '30;2'"),
        ("train_id.txt", "30,2,", "1: number 3 is ''"),
        ("val_id.txt", "7,7", "1: number 2 is '7'"),
        ("test_id.txt", "3,30", "1: person 30 is in train_id.txt too"),
        ("val_id.txt", "2", "1: person 2 is in train_id.txt too"),
        ("val_id.txt", " \n", " empty file"),
    ],
)
def test_a_bad_id_file_is_named_with_what_is_wrong(tmp_path, file, text, expected):
    folder = write_sysu(tmp_path)
    (folder / "exp" / file).write_text(text)
    assert f"{folder / 'exp' / file}:{expected}" in refusal(tmp_path)


def test_a_person_without_images_is_named(tmp_path):
    folder = write_sysu(tmp_path)
    (folder / "exp" / "val_id.txt").write_text("7,99")
    assert "no image of person 0099" in refusal(tmp_path)


@pytest.mark.parametrize("exists", [True, False])
def test_a_missing_set_tells_where_to_get_it(tmp_path, exists):
    if exists:
        (tmp_path / "SYSU-MM01" / "cam1").mkdir(parents=True)
    message = refusal(tmp_path)
    for part in (
        str(tmp_path / "SYSU-MM01"),
        "'exp'",
        "FASTREID_DATASETS",
        "https://github.com/wuancong/SYSU-MM01",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mode": "outdoor"}, "DATASETS.SYSU.MODE: 'outdoor'; expected all or indoor"),
        ({"shot": 5}, "DATASETS.SYSU.SHOT: 5; expected 1 or 10"),
        ({"draw": "agw"}, "DATASETS.SYSU.DRAW: 'agw'; expected official or seeded"),
        ({"draw": "seeded", "shot": 10}, "'seeded' draws one image"),
    ],
)
def test_an_unknown_option_is_answered_with_the_choices(root, options, expected):
    assert expected in refusal(root, **options)


def test_the_config_reaches_the_data_set_and_other_sets_get_nothing(root, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    options = "DATASETS.SYSU.MODE indoor DATASETS.SYSU.SHOT 10"
    data = build_dataset("SYSUMM01", cfg=setup_cfg("", options.split()))
    assert list(data.directions()) == ["I2V indoor 10-shot official-draw"]
    assert list(build_dataset("SYSUMM01").directions()) == ["I2V all 1-shot official-draw"]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4])
def test_images_train_and_test_as_clips_of_one_frame(cfg, tmp_path, monkeypatch, batch_size):
    write_sysu(tmp_path, pictures=True)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    cfg.INPUT.CLIP.LENGTH = 1
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("SYSUMM01",)
    cfg.TEST.IMS_PER_BATCH = batch_size
    batch = next(iter(build_train_loader(cfg)))
    assert batch["images"].shape == (8, 1, 3, 16, 8)
    assert batch["modalities"].tolist() == [0] * 4 + [1] * 4
    loader, data = build_test_loader(cfg, "SYSUMM01")
    shapes = [batch["images"].shape for batch in loader]
    assert {shape[1:] for shape in shapes} == {(1, 3, 16, 8)}
    assert sum(shape[0] for shape in shapes) == len(data.query) + len(data.gallery)
