import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.utils.real_files import find_repeated, first_spellings


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two files with equal contents, and other names of the first."""
    (tmp_path / "a").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "a" / name).write_bytes(b"same")
    (tmp_path / "link.jpg").symlink_to("a/1.jpg")
    (tmp_path / "b").symlink_to("a")
    os.link(tmp_path / "a" / "1.jpg", tmp_path / "hard.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "again", ["./a/1.jpg", "a//1.jpg", "b/../a/1.jpg", "link.jpg", "b/1.jpg", "hard.jpg", "abs"]
)
def test_every_spelling_of_a_file_is_that_file(pictures, again):
    again = str(pictures / "a" / "1.jpg") if again == "abs" else again
    for paths in (["a/1.jpg", "a/2.jpg", again], [again, "a/2.jpg", "a/1.jpg"]):
        found = first_spellings(paths)
        assert found == {paths[0]: paths[0], paths[1]: paths[1], paths[2]: paths[0]}
        assert list(find_repeated(paths)) == [(2, 0)]


def test_files_that_are_not_there_are_compared_by_folder_and_name(pictures):
    paths = ["gone/1.jpg", "gone/../gone/1.jpg", "a/gone.jpg", "./a/gone.jpg", "gone.jpg", "b\0/1"]
    assert list(find_repeated(paths)) == [(1, 0), (3, 2)]
    (pictures / "loop.jpg").symlink_to("loop.jpg")
    (pictures / "dead.jpg").symlink_to("a/gone.jpg")
    assert list(find_repeated(["loop.jpg", "a/gone.jpg", "dead.jpg"])) == [(2, 1)]


NAMES = ("a/1.jpg", "./a/1.jpg", "a/2.jpg", "link.jpg", "hard.jpg", "b/1.jpg", "b/2.jpg", "x.jpg")


@given(st.lists(st.sampled_from(NAMES), max_size=8))
def test_it_is_what_samefile_says_of_each_pair(tmp_path_factory, names):
    top = tmp_path_factory.mktemp("files")
    (top / "a").mkdir()
    for name in ("a/1.jpg", "a/2.jpg", "x.jpg"):
        (top / name).touch()
    (top / "link.jpg").symlink_to("a/1.jpg")
    (top / "b").symlink_to("a")
    os.link(top / "a" / "1.jpg", top / "hard.jpg")
    paths = [f"{top}/{name}" for name in names]
    expected = {
        path: next(other for other in paths if os.path.samefile(path, other)) for path in paths
    }
    assert first_spellings(paths) == expected


def test_a_plain_file_costs_no_system_call_of_its_own(pictures, monkeypatch):
    for number in range(300):
        (pictures / "a" / f"x{number}.jpg").touch()
    paths = [f"{pictures}/a/x{number}.jpg" for number in range(300)]
    calls = []
    lstat, stat = os.lstat, os.stat
    monkeypatch.setattr(os, "lstat", lambda *args, **kwargs: calls.append(1) or lstat(*args))
    monkeypatch.setattr(os, "stat", lambda *args, **kwargs: calls.append(1) or stat(*args))
    assert len(set(first_spellings(paths).values())) == 300
    assert len(calls) < 30, "one folder is resolved once"
