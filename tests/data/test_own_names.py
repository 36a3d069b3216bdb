"""People and cameras keep the names of their files, in every list and through every wrapper."""

from pathlib import Path

import pytest

from plugins.config import setup_cfg
from plugins.data import build_dataset, checks
from plugins.data.datasets.own_names import item_names, named
from plugins.data.datasets.splits import read_splits
from tests.helpers.trees import write_bupt, write_manifest, write_people

MANIFEST = [
    f"{person}/{camera}/{frame}.png,{person},{camera},{modality},t,{frame},{split}"
    for person, split in (("0502", "train"), ("0507", "query"), ("0510", "query"))
    for camera, modality in (("D2", "infrared"), ("D10", "visible"))
    for frame in (1, 2)
]


def people_and_cameras(data):
    return {
        split: {(item.pid, item.camid) for item in items}
        for split, items in read_splits(data).items()
    }


def test_a_manifest_s_names_are_in_tables_sheets_and_results(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    lines = [
        line.replace(",query", ",gallery") if "visible" in line and "0502" not in line else line
        for line in MANIFEST
    ]
    write_manifest(tmp_path, lines)
    data = build_dataset("ManifestDataset")
    assert people_and_cameras(data)["query"] == {("0507", "D2"), ("0510", "D2")}
    cameras = [row[2] for row in checks.count_cells(read_splits(data))]
    assert cameras == ["D10", "D2", "D2", "D10"]  # train: visible, infrared; query; gallery
    names = item_names(data, [*data.query, *data.gallery], str(tmp_path))
    assert names["person"].tolist() == ["0507", "0510"] * 2
    assert names["camera"].tolist() == ["D2", "D2", "D10", "D10"]
    assert names["modality"].tolist() == ["infrared"] * 2 + ["visible"] * 2
    (text,) = {c.text for c in checks.check_labels(read_splits(data)) if c.fatal}
    assert text == "1 people; expected 2 or more to tell apart"


def test_a_folder_s_names_are_those_of_its_folders_and_files(tmp_path):
    write_people(tmp_path / "people", ("ann", "bob", "cy"), ("north", "south"))
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    try:
        data = build_dataset("FolderDataset")
        assert people_and_cameras(data) == {
            "train": {(person, camera) for person in ("ann", "bob") for camera in CAMERAS},
            "query": {("cy", "north")},
            "gallery": {("cy", "south")},
        }
        held = ["DATASETS.HELD_OUT.NAME", "FolderDataset", "DATASETS.HELD_OUT.PEOPLE", "2"]
        write_people(tmp_path / "more", ("ann", "bob", "cy", "dan", "eve", "fay"), CAMERAS)
        cfg = setup_cfg("", [*held, "DATASETS.FOLDER.ROOT", "more"])
        wrapped = build_dataset("HeldOutPeople", cfg=cfg)
        for split, items in read_splits(wrapped).items():
            for item in items:
                path = Path(item.img_paths[0])
                assert (item.pid, item.camid) == (path.parent.name, path.name.split("_")[0]), split
    finally:
        monkeypatch.undo()


CAMERAS = ("north", "south")


def test_cameras_of_bupt_campus_have_their_names(tmp_path, monkeypatch):
    write_bupt(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "RGB"))
    data = build_dataset("BUPTCampus")
    for items in read_splits(data).values():
        for item in items:
            assert item.camid == Path(item.img_paths[0]).parent.name


def test_fastreids_cameras_have_the_numbers_of_their_files(market, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(market))
    data = build_dataset("Market1501")
    for items in read_splits(data).values():
        for item in items:
            stem = Path(item.img_paths[0]).name
            assert stem.startswith(f"{int(item.pid):04d}_c{item.camid}s")
    thinned = build_dataset(
        "ThinnedDataset", cfg=setup_cfg("", ["DATASETS.THINNED.NAME", "Market1501"])
    )
    assert read_splits(thinned)["query"] == read_splits(data)["query"]


@pytest.mark.slow
def test_a_user_s_reader_without_names_keeps_its_labels():
    assert named(object(), ("a.jpg", 7, 3))[1:3] == ("7", "3")
