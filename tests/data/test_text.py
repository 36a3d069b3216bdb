"""Text files of data sets: UTF-8, or refused with file, line and byte."""

import re
from pathlib import Path

import pytest

from plugins.data import build_dataset
from plugins.data.datasets import BUPTCampus, ManifestDataset
from plugins.data.datasets.index_files import whole_number
from plugins.errors import InputError
from tests.helpers.trees import HEADER, SETS

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "HITSZVCM": "HITSZ-VCM",
    "BUPTCampus": "RGB/BUPTCampus",
    "SYSUMM01": "SYSU-MM01",
    "ManifestDataset": ".",
}
FILES = {
    "HITSZVCM": [
        f"info/{name}.txt"
        for name in ("train_name", "test_name", "track_train_info", "track_test_info")
    ],
    "BUPTCampus": ["data_paths.json", "train.txt", "query.txt", "gallery.txt"],
    "SYSUMM01": [f"exp/{split}_id.txt" for split in ("train", "val", "test")],
    "RegDB": [
        f"idx/{split}_{kind}_1.txt"
        for split in ("train", "test")
        for kind in ("visible", "thermal")
    ],
    "LLCM": [f"idx/{split}_{kind}.txt" for split in ("train", "test") for kind in ("vis", "nir")]
    + ["idx/test_id.txt"],
    "ManifestDataset": ["manifest.csv"],
}


@pytest.mark.parametrize(("name", "file"), [(n, f) for n, files in FILES.items() for f in files])
def test_a_byte_that_is_not_utf_8_is_named_in_every_file_of_every_set(
    tmp_path, monkeypatch, name, file
):
    write, below = SETS[name]
    write(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / below))
    path = tmp_path / FOLDERS.get(name, name) / file
    build_dataset(name)
    lines = path.read_bytes().split(b"\n")
    damaged = (len(lines) - 1) // 2
    lines[damaged] = lines[damaged][:1] + b"\xe9" + lines[damaged][1:]  # Latin-1's e acute
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(InputError) as caught:
        build_dataset(name)
    where = re.escape(f"{path}:{damaged + 1}: byte 2 of the line, 0xe9, is not UTF-8; ")
    assert re.fullmatch(f"{where}.*", str(caught.value))


PEOPLE = ("Jos\xe9", "Jos\xe8", "\u738b\u4f1f", "\u738b\u82b3")


def write_people(path, encoding, people):
    rows = [
        f"{number}.jpg,{person},{camera},visible,,,{split}"
        for number, person in enumerate(people)
        for camera, split in (("nord", "query"), ("s\xfcd", "gallery"))
    ]
    path.write_bytes("\n".join([HEADER, *rows]).encode(encoding))


@pytest.mark.parametrize(("encoding", "people"), [("cp1252", PEOPLE[:2]), ("gbk", PEOPLE[2:])])
def test_people_of_another_encoding_are_not_merged(tmp_path, encoding, people):
    """Both of Latin-1's e with an accent would become the same question mark."""
    write_people(tmp_path / "manifest.csv", encoding, people)
    with pytest.raises(InputError, match=r"\.csv:2: byte \d+ of the line, 0x.., is not UTF-8"):
        ManifestDataset(root=str(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_people_keep_their_own_letters_in_utf_8(tmp_path, encoding):
    write_people(tmp_path / "manifest.csv", encoding, PEOPLE)
    data = ManifestDataset(root=str(tmp_path))
    assert len({pid for _, pid, _ in data.query}) == 4
    assert {camid for _, _, camid in data.query} != {camid for _, _, camid in data.gallery}


def test_utf_16_as_a_spreadsheet_saves_it_is_refused(tmp_path):
    write_people(tmp_path / "manifest.csv", "utf-16", PEOPLE)
    with pytest.raises(InputError, match=r"manifest\.csv:1: byte 1 of the line, 0xff"):
        ManifestDataset(root=str(tmp_path))


def test_no_file_is_read_with_letters_replaced():
    replacing = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "plugins/data").rglob("*.py")
        if re.search(r"\berrors=\"", path.read_text())
    ]
    assert replacing == ["plugins/data/datasets/index_files.py"]  # numbers alone, see read_text


@pytest.mark.parametrize("digits", [19, 5000])
def test_a_number_that_no_tensor_holds_is_named(tmp_path, digits):
    """Beyond 4300 digits int() itself refuses."""
    assert whole_number("9" * 18) == 10**18 - 1
    assert whole_number("9" * digits) is None
    row = f"x.jpg,ann,north,visible,1,{'9' * digits},train"
    (tmp_path / "manifest.csv").write_text(f"{HEADER}\n{row}\n")
    with pytest.raises(InputError, match=r"manifest\.csv:2: frame is '99[9.]+', expected a whole"):
        ManifestDataset(root=str(tmp_path))


def test_a_path_with_a_nul_character_is_named(tmp_path):
    (tmp_path / "manifest.csv").write_text(f"{HEADER}\na\0.jpg,ann,north,visible,,,train\n")
    with pytest.raises(InputError, match=r"manifest\.csv:2: path holds a NUL character"):
        ManifestDataset(root=str(tmp_path))


def write_parquet(path, people):
    """A table of one row, whose person is an array of pyarrow's."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    cells = ("x.jpg", "ann", "north", "visible", "1", "0", "train")
    row = dict(zip(HEADER.split(","), cells, strict=True))
    parquet.write_table(pyarrow.Table.from_pylist([row]).set_column(1, "person", people), path)


@pytest.mark.parametrize("cell", [b"ann", True, float("nan")])
def test_a_cell_of_a_parquet_file_that_is_no_text_is_named(tmp_path, cell):
    pyarrow = pytest.importorskip("pyarrow")
    write_parquet(tmp_path / "table.parquet", pyarrow.array([cell]))
    with pytest.raises(InputError, match=r"table\.parquet:1: person is .*, expected text or a nu"):
        ManifestDataset(root=str(tmp_path), file="table.parquet")


def test_text_of_a_parquet_file_that_is_not_utf_8_is_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    write_parquet(tmp_path / "table.parquet", pyarrow.array([b"Jos\xe9"]).view(pyarrow.string()))
    with pytest.raises(InputError, match=r"table\.parquet: a text in column person is not UTF-8"):
        ManifestDataset(root=str(tmp_path), file="table.parquet")


def test_a_person_that_an_index_lists_twice_is_named(tmp_path):
    """JSON keeps the last of the two, and the frames of the first are lost."""
    folder = SETS["BUPTCampus"][0](tmp_path)
    index = folder / "data_paths.json"
    text = index.read_text().strip()
    person = re.search(r'"(\d+)"', text)[1]
    index.write_text(f'{text[:-1]}, "{person}": {{}}}}')
    with pytest.raises(InputError, match=rf"data_paths\.json: '{person}' is 2 times in one table"):
        BUPTCampus(root=str(folder.parent), dataset_dir=folder.name)


@pytest.mark.slow
def test_an_index_that_is_nested_without_end_is_one_line(tmp_path):
    folder = SETS["BUPTCampus"][0](tmp_path)
    (folder / "data_paths.json").write_text('{"1":' * 200_000)
    with pytest.raises(InputError, match=r"data_paths\.json: nested too deeply"):
        BUPTCampus(root=str(folder.parent), dataset_dir=folder.name)
