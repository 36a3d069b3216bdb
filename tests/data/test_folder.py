import pytest
from PIL import Image

from plugins.config import setup_cfg
from plugins.data import build_dataset, build_test_loader, build_train_loader
from plugins.data.datasets import FolderDataset
from plugins.errors import InputError
from tests.helpers.trees import write_people


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    write_people(tmp_path / "people")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    cfg = setup_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [16, 8]
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("FolderDataset",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.SAMPLER_TRAIN = "IdentitySampler"
    cfg.DATALOADER.NUM_INSTANCE, cfg.SOLVER.IMS_PER_BATCH = 2, 4
    return cfg


def test_the_first_people_train_and_the_first_camera_searches(tmp_path):
    folder = write_people(tmp_path / "people")
    data = FolderDataset(root=str(tmp_path))
    assert {(pid, camid) for _, pid, camid in data.train} == {
        (f"folder_{person}", f"folder_{camera}") for person in (0, 1) for camera in (0, 1)
    }
    assert len(data.train) == 8
    assert data.query == [(f"{folder}/cy/01_{view}.png", 2, 0) for view in (0, 1)]
    assert data.gallery == [(f"{folder}/cy/02_{view}.png", 2, 1) for view in (0, 1)]


@pytest.mark.parametrize(("people", "share", "trained"), [(100, 0.07, 7), (100, 0.071, 8)])
def test_a_share_is_rounded_up_from_its_decimal_digits(tmp_path, people, share, trained):
    write_people(tmp_path / "people", [f"{pid:03d}" for pid in range(people)], views=1)
    data = FolderDataset(root=str(tmp_path), train_share=share)
    assert len({pid for _, pid, _ in data.train}) == trained


def test_names_that_start_with_a_dot_are_ignored(tmp_path):
    folder = write_people(tmp_path / "people")
    expected = FolderDataset(root=str(tmp_path))
    (folder / "cy" / "._01_0.png").touch()
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "01_0.png").touch()
    found = FolderDataset(root=str(tmp_path))
    for split in ("train", "query", "gallery"):
        assert getattr(found, split) == getattr(expected, split)


@pytest.mark.parametrize(("people", "trained"), [(2, 2), (3, 2), (4, 3), (6, 4), (62, 42)])
def test_two_thirds_train_rounded_up(tmp_path, people, trained):
    write_people(tmp_path / "people", [f"{n:03d}" for n in range(people)], views=1)
    if trained == people:
        with pytest.raises(InputError, match=r"TRAIN_SHARE: 0\.6\d+ of the 2 people .* are 2"):
            FolderDataset(root=str(tmp_path))
        assert len({row[1] for row in FolderDataset(str(tmp_path), train_share=0.5).train}) == 1
        return
    data = FolderDataset(root=str(tmp_path))
    assert len({pid for _, pid, _ in data.train}) == trained
    assert len({pid for _, pid, _ in data.query}) == people - trained


def test_other_files_are_ignored_and_any_case_is_a_picture(tmp_path):
    folder = write_people(tmp_path / "people")
    before = len(FolderDataset(root=str(tmp_path)).train)
    (folder / "Thumbs.db").write_bytes(b"")
    (folder / "ann" / "Thumbs.db").write_bytes(b"")
    (folder / "empty").mkdir()
    (folder / "ann" / "01_9.JPG").write_bytes(b"")
    assert len(FolderDataset(root=str(tmp_path)).train) == before + 1


def test_an_absolute_folder_needs_no_root(tmp_path):
    folder = write_people(tmp_path / "elsewhere")
    assert len(FolderDataset(root="/nowhere", dataset_dir=str(folder)).query) == 2


def test_a_folder_trains_and_is_searched_in_one_direction(cfg):
    batch = next(iter(build_train_loader(cfg)))
    assert batch["images"].shape == (4, 3, 16, 8)
    loader, data = build_test_loader(cfg, "FolderDataset")
    assert sum(len(batch["targets"]) for batch in loader) == 4
    ((name, protocol),) = data.directions().items()
    assert name == "Q2G"
    assert [side.tolist() for side in protocol.trials[0]] == [[0, 1], [2, 3]]


def test_options_come_from_the_config(cfg, tmp_path):
    write_people(tmp_path / "mine", [f"p{n}" for n in range(10)])
    cfg.DATASETS.FOLDER.ROOT = "mine"
    cfg.DATASETS.FOLDER.TRAIN_SHARE = 0.3
    data = build_dataset("FolderDataset", cfg=cfg)
    assert {pid for _, pid, _ in data.train} == {"folder_0", "folder_1", "folder_2"}


def test_combineall_trains_on_everybody(cfg):
    cfg.DATASETS.COMBINEALL = True
    assert build_train_loader(cfg).dataset.num_classes == 3


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 2.0])
def test_a_share_that_leaves_nobody_is_refused(tmp_path, share):
    write_people(tmp_path / "people")
    with pytest.raises(InputError, match=r"TRAIN_SHARE: .* expected 1 to 2, and others to test"):
        FolderDataset(root=str(tmp_path), train_share=share)


@pytest.mark.parametrize("share", [float("nan"), float("inf"), None, "0.5"])
def test_a_share_that_is_no_number_is_refused(tmp_path, share):
    write_people(tmp_path / "people")
    with pytest.raises(InputError, match=r"TRAIN_SHARE: .*; expected a number, 0 to 1"):
        FolderDataset(root=str(tmp_path), train_share=share)


def test_a_picture_without_a_camera_is_named(tmp_path):
    lost = write_people(tmp_path / "people") / "bob" / "portrait.jpg"
    lost.write_bytes(b"")
    with pytest.raises(InputError, match=rf"{lost}: its name has no camera"):
        FolderDataset(root=str(tmp_path))


def test_one_camera_has_no_gallery(tmp_path):
    write_people(tmp_path / "people", cameras=("01",))
    with pytest.raises(InputError, match="all pictures of the 1 test people are of camera '01'"):
        FolderDataset(root=str(tmp_path))


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"DATASETS\.FOLDER\.ROOT: no folder .*people"):
        FolderDataset(root=str(tmp_path))
    (tmp_path / "people").mkdir()
    with pytest.raises(InputError, match="no pictures there"):
        FolderDataset(root=str(tmp_path))


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("Train/0001/ir/D1/1.jpg", "pictures lie deeper; is this folder too high?"),
        ("1_a.jpg", "pictures lie in this folder itself; is it too deep?"),
        ("ann/north/1.gif", "is this folder one too high or one too deep?"),
    ],
)
def test_a_folder_of_the_wrong_level_is_asked_about_by_where_its_pictures_lie(
    tmp_path, place, told
):
    picture = tmp_path / "people" / place
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(picture)
    with pytest.raises(InputError) as caught:
        FolderDataset(str(tmp_path))
    assert "no pictures there" in str(caught.value) and str(caught.value).endswith(told)


@pytest.mark.slow
def test_one_person_alone_hints_at_the_wrong_folder(tmp_path):
    (tmp_path / "people" / "0001").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "people" / "0001" / "1_a.jpg")
    with pytest.raises(InputError, match=r"1 person there, 'people'; .*one too high or one too"):
        FolderDataset(str(tmp_path), dataset_dir="")
    with pytest.raises(InputError, match=r"no pictures there .*itself; is it too deep\?"):
        FolderDataset(str(tmp_path), dataset_dir="people/0001")
