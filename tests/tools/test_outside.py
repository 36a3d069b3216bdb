"""What commands write stays out of the data sets that they read."""

import shutil

import pytest

from plugins.data.outside import require_outside, set_folders
from plugins.errors import InputError
from tests.helpers.small_runs import CONFIG, ROOT


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "sets"))
    (tmp_path / "sets/people/ann").mkdir(parents=True)
    return tmp_path / "sets"


def items(*paths):
    return [(str(path), 0, 0) for path in paths]


def test_the_folder_of_a_set_is_the_one_in_the_folder_of_all_sets(root, tmp_path):
    inside = str(root / "people/ann/1.jpg")
    assert set_folders([inside, str(root / "other/x/2.jpg")]) == {root / "people", root / "other"}
    assert set_folders([str(root / "3.jpg")]) == set(), "the folder of all sets is none itself"
    elsewhere = [str(tmp_path / f"mine/{name}/1.jpg") for name in "ab"]
    assert set_folders(elsewhere) == {tmp_path / "mine"}
    assert set_folders([*elsewhere, "/dev/x/1.jpg", inside]) == {root / "people"}
    assert set_folders([]) == set()


@pytest.mark.parametrize("path", ["people", "people/new", "people/ann/sheet.png", "link/new"])
def test_a_path_inside_a_set_is_refused(root, path):
    (root / "link").symlink_to(root / "people")
    with pytest.raises(InputError, match=r"--out .*: in .*/people, the folder of the data set"):
        require_outside("--out", root / path, items(root / "people/ann/1.jpg"))


@pytest.mark.parametrize("path", ["", "new", "people2", "../out"])
def test_a_path_outside_is_taken(root, path):
    require_outside("--out", root / path, items(root / "people/ann/1.jpg"))


@pytest.mark.parametrize(
    ("tool", "words", "option"),
    [
        ("check_data", ["HITSZVCM", "--labels-only", "--sheet", "Train/sheet.png"], "--sheet"),
        ("convert_data", ["--from", "HITSZVCM", "--to", "manifest", "--out", "Train/new"], "--out"),
        ("cache_data", ["--config-file", CONFIG, "--out", "Train"], "--out"),
    ],
)
def test_commands_write_nothing_into_a_set(
    datasets, tmp_path, monkeypatch, run_tool, tool, words, option
):
    own = shutil.copytree(datasets, tmp_path / "sets")
    monkeypatch.setenv("FASTREID_DATASETS", str(own))
    monkeypatch.chdir(own / "HITSZ-VCM")
    before = sorted(own.rglob("*"))
    status, _, errors = run_tool(ROOT / f"tools/{tool}.py", *map(str, words))
    assert status == 2, errors
    assert f"error: {option} " in errors and "the folder of the data set itself" in errors
    assert sorted(own.rglob("*")) == before
