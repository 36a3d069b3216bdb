"""A list that names a file is named with its line, and the line does name that file."""

from pathlib import Path

import pytest

from plugins.data import build_dataset
from plugins.data.datasets.own_names import line_of
from plugins.data.datasets.splits import read_splits
from tests.helpers.trees import SETS


@pytest.mark.parametrize("name", [name for name in SETS if name != "SYSUMM01"])
def test_the_line_names_the_file(name, tmp_path, monkeypatch):
    write, folder = SETS[name]
    write(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / folder))
    data = build_dataset(name)
    for split, items in read_splits(data).items():
        for item in items:
            for file in item.img_paths:
                table, _, number = line_of(data, file, split).rpartition(":")
                line = Path(table).read_text().splitlines()[int(number) - 1]
                assert named_in(line, file, name), (file, line)


def named_in(line: str, file: str, name: str) -> bool:
    if name == "HITSZVCM":  # "0001M2D3T1F6.jpg": person, modality, camera, row, number
        person, _, camera, number = Path(file).parts[-4:]
        return (
            line.startswith(f"{person}M") and f"{camera}T" in line and line.endswith(f"F{number}")
        )
    if name == "BUPTCampus":  # "1 RGB/IR CQ1 8535"
        person, kinds, camera, tracklet = line.split()
        name = Path(file).name
        return any(
            name.startswith(f"{person}_{kind}_{camera}_{tracklet}_") for kind in kinds.split("/")
        )
    path = line.replace(",", " ").split()[0]
    return file.endswith(f"/{path}")


@pytest.mark.slow
def test_a_set_without_lists_names_no_line(tmp_path, monkeypatch):
    SETS["SYSUMM01"][0](tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    data = build_dataset("SYSUMM01")
    assert line_of(data, data.query[0].img_paths[0], "query") == ""
