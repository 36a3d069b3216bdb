"""Files: written whole or not at all, read verified or refused."""

import errno
import hashlib
import io
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from plugins.errors import InputError, RunFailed
from plugins.utils.io import (
    file_digest,
    make_folder,
    read_json,
    read_tensors,
    read_text,
    write_atomically,
    write_json,
    write_tensors,
    write_text,
)
from tests.helpers import small_disk

TENSORS = {"model": {"weight": torch.arange(1000.0), "bias": torch.ones(3)}, "epoch": 4}


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


class TestWriting:
    def test_replaces_the_old_contents_and_leaves_nothing_else(self, tmp_path):
        write_text(tmp_path / "a", "old")
        write_text(tmp_path / "a", "new\r\n")
        assert (tmp_path / "a").read_bytes() == b"new\r\n"
        assert names(tmp_path) == ["a"]

    def test_a_file_has_the_permissions_that_open_gives(self, tmp_path):
        write_text(tmp_path / "a", "")
        (tmp_path / "b").open("w").close()
        assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode

    def test_a_failed_write_keeps_the_old_contents(self, tmp_path):
        write_text(tmp_path / "a", "old")

        def half(file):
            file.write(b"half")
            raise KeyError("no more")

        with pytest.raises(KeyError):
            write_atomically(tmp_path / "a", half)
        assert (tmp_path / "a").read_text() == "old"
        assert names(tmp_path) == ["a"]

    def test_two_writers_at_once_leave_one_whole_file(self, tmp_path):
        contents = [bytes([letter]) * 200_000 for letter in b"ab"]

        def write(content):
            for _ in range(20):
                write_atomically(
                    tmp_path / "a",
                    lambda file: [file.write(content[i : i + 999]) for i in range(0, 200_000, 999)],
                )

        threads = [threading.Thread(target=write, args=(content,)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (tmp_path / "a").read_bytes() in contents
        assert names(tmp_path) == ["a"]

    @pytest.mark.slow
    def test_what_a_killed_writer_left_goes_with_the_next_write(self, tmp_path):
        code = (
            "import os, signal\n"
            "from plugins.utils.io import write_atomically\n"
            f"write_atomically({str(tmp_path / 'a')!r},"
            " lambda file: os.kill(os.getpid(), signal.SIGKILL))"
        )
        killed = subprocess.run([sys.executable, "-c", code])
        assert killed.returncode == -signal.SIGKILL
        assert len(names(tmp_path)) == 1
        write_text(tmp_path / "b", "another file's leftovers stay")
        assert len(names(tmp_path)) == 2
        write_text(tmp_path / "a", "whole")
        assert names(tmp_path) == ["a", "b"]

    def test_a_planted_link_is_not_followed(self, tmp_path, monkeypatch):
        victim = tmp_path / "victim"
        victim.write_text("untouched")
        monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)
        (tmp_path / f".a.{'0' * 16}.tmp").symlink_to(victim)
        with pytest.raises(InputError, match="cannot be written: File exists"):
            write_text(tmp_path / "a", "contents")
        assert victim.read_text() == "untouched"

    @pytest.mark.parametrize("missing", ["no/such", "x" * 300])
    def test_a_name_that_cannot_be_is_one_line(self, tmp_path, missing):
        with pytest.raises(InputError, match="cannot be written: ") as caught:
            write_text(tmp_path / missing, "")
        assert "\n" not in str(caught.value)


@pytest.fixture
def full_disk(tmp_path):
    """A folder of a file system of 256 KiB."""
    with small_disk.full_disk(tmp_path / "small", 256 << 10) as folder:
        yield folder


class TestFullDisk:
    def test_the_previous_file_is_kept(self, full_disk):
        path = full_disk / "model.pth"
        write_tensors(path, TENSORS)
        before = path.read_bytes()
        with pytest.raises(RunFailed, match=r"model\.pth: cannot be written: No space") as failed:
            write_tensors(path, {"model": torch.zeros(100_000)})
        assert failed.value.status == 1
        assert path.read_bytes() == before
        assert names(full_disk) == ["model.pth"]

    def test_an_array_too(self, full_disk):
        zeros = np.zeros(100_000)
        with pytest.raises(RunFailed, match=r"a: cannot be written: .*\(a full disk\?\); what was"):
            write_atomically(full_disk / "a", lambda file: np.save(file, zeros))
        assert names(full_disk) == []

    def test_text_and_folders_too(self, full_disk):
        with pytest.raises(RunFailed, match="No space left"):
            write_text(full_disk / "a", "x" * 300_000)
        with pytest.raises(OSError, match="No space left"), open(full_disk / "filling", "wb") as f:
            f.write(b"x" * 300_000)
        with pytest.raises(InputError, match=r"OUTPUT_DIR .*: cannot write there: No space left"):
            make_folder(full_disk / "run", "OUTPUT_DIR")


class TestFolders:
    def test_is_made_with_those_above_it_and_left_empty(self, tmp_path):
        assert names(make_folder(tmp_path / "a" / "b")) == []

    def test_a_file_in_its_place_or_above_it_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=r"OUTPUT_DIR .*file: a file; expected a folder"):
            make_folder(tmp_path / "file", "OUTPUT_DIR")
        with pytest.raises(InputError, match=r"OUTPUT_DIR .*/b: .*/file is a file"):
            make_folder(tmp_path / "file" / "a" / "b", "OUTPUT_DIR")

    def test_a_name_that_is_too_long_is_one_line(self, tmp_path):
        with pytest.raises(InputError, match="cannot write there: File name too long"):
            make_folder(tmp_path / ("x" * 300))


class TestText:
    @pytest.mark.slow
    @given(st.text())
    def test_reads_back_what_was_written(self, tmp_path_factory, text):
        path = tmp_path_factory.mktemp("text") / "a"
        write_text(path, text)
        assert read_text(path, keep_line_ends=True) == text.removeprefix("\ufeff")
        assert read_text(path) == path.read_text(encoding="utf-8-sig")

    @pytest.mark.parametrize("encoding", ["gbk", "cp1252", "utf-16"])
    def test_another_encoding_is_refused_with_line_and_byte(self, tmp_path, encoding):
        path = tmp_path / "table.csv"
        lines = "person,camera\r\nanna,1\r\n\u00e4\u00df,2\r\n" if encoding == "cp1252" else "甲,1"
        path.write_bytes(lines.encode(encoding))
        with pytest.raises(InputError, match=r"table\.csv:\d+: byte \d+ .* is not UTF-8"):
            read_text(path)
        if encoding == "cp1252":
            with pytest.raises(InputError, match=r"table\.csv:3: byte 1 of the line, 0xe4"):
                read_text(path)

    @given(st.binary(max_size=40))
    @example(b"\r\x80")
    def test_the_byte_that_is_named_is_the_first_that_is_not_utf_8(self, tmp_path_factory, data):
        path = tmp_path_factory.mktemp("bytes") / "a"
        path.write_bytes(data)
        try:
            data.removeprefix(b"\xef\xbb\xbf").decode()
        except UnicodeDecodeError:
            with pytest.raises(InputError, match="is not UTF-8") as caught:
                read_text(path)
            place, _, rest = str(caught.value).removeprefix(f"{path}:").partition(": byte ")
            lines = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
            line = lines.replace(b"\r", b"\n").split(b"\n")[int(place) - 1]
            byte = int(rest.split()[0]) - 1
            assert f"0x{line[byte]:02x}," in rest
            line[:byte].decode()
        else:
            read_text(path)

    def test_json_that_is_none_is_named_with_its_line(self, tmp_path):
        write_json(tmp_path / "a.json", {"b": [1, 2]})
        assert read_json(tmp_path / "a.json") == {"b": [1, 2]}
        (tmp_path / "a.json").write_text('{"b":\n 1,}')
        with pytest.raises(InputError, match=r"a\.json:2: .*; expected results"):
            read_json(tmp_path / "a.json", "results")
        (tmp_path / "a.json").write_text("[" * 100_000)
        with pytest.raises(InputError, match="nested too deeply"):
            read_json(tmp_path / "a.json")

    def test_only_regular_files_are_read(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
        with pytest.raises(InputError, match="pipe: not a regular file"):
            read_text(tmp_path / "pipe")
        with pytest.raises(InputError, match="a folder; expected a file"):
            read_text(tmp_path)
        with pytest.raises(InputError, match="no such file"):
            read_text(tmp_path / "nowhere")


class TestTensors:
    def test_reads_back_what_was_written(self, tmp_path):
        write_tensors(tmp_path / "a.pth", TENSORS)
        found = read_tensors(tmp_path / "a.pth", "checkpoint")
        assert torch.equal(found["model"]["weight"], TENSORS["model"]["weight"])
        assert found["epoch"] == 4

    @pytest.mark.parametrize("start", [0.2, 0.5, 0.8])
    def test_inverted_bytes_of_a_weight_are_noticed(self, tmp_path, start):
        path = tmp_path / "a.pth"
        write_tensors(path, {"weight": torch.arange(10_000.0)})
        data = bytearray(path.read_bytes())
        place = int(start * len(data))
        data[place : place + 64] = bytes(255 - byte for byte in data[place : place + 64])
        path.write_bytes(data)
        torch.load(path, weights_only=True)  # torch itself notices nothing
        with pytest.raises(InputError, match=r"a\.pth: damaged: the checksum of its part .*data"):
            read_tensors(path, "checkpoint")

    def test_an_old_file_is_checked_against_the_hash_in_its_name(self, tmp_path):
        data = io.BytesIO()
        torch.save({"weight": torch.zeros(9)}, data, _use_new_zipfile_serialization=False)
        told = hashlib.sha256(data.getvalue()).hexdigest()[:8]
        path, renamed = tmp_path / f"net-{told}.pth", tmp_path / "net-00000000.pth"
        for each in (path, renamed):
            each.write_bytes(data.getvalue())
        assert torch.equal(read_tensors(path, "file of weights")["weight"], torch.zeros(9))
        with pytest.raises(InputError, match=f"its name holds the hash 00000000, .* have {told}"):
            read_tensors(renamed, "file of weights")

    @pytest.mark.parametrize(
        ("value", "name"),
        [(np.float64(1), "numpy._core.multiarray.scalar"), (torch.nn.Linear(1, 1), "Linear")],
    )
    def test_other_objects_are_named(self, tmp_path, value, name):
        torch.save({"metric": value}, tmp_path / "a.pth")
        with pytest.raises(InputError, match=f"holds .*{name}, which is not read, for safety"):
            read_tensors(tmp_path / "a.pth", "checkpoint")

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    def test_any_mutation_of_the_pickle_is_read_whole_or_refused(self, tmp_path):
        """Its checksums are made anew, so that only unpickling can notice."""
        write_tensors(tmp_path / "a.pth", TENSORS)
        with zipfile.ZipFile(tmp_path / "a.pth") as archive:
            parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        (pickled,) = [name for name in parts if name.endswith("data.pkl")]
        generator = random.Random(0)
        for _ in range(300):
            data = bytearray(parts[pickled])
            for _ in range(generator.randint(1, 4)):
                data[generator.randrange(len(data))] = generator.randrange(256)
            with zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_STORED) as archive:
                for name, part in (parts | {pickled: bytes(data)}).items():
                    archive.writestr(name, part)
            try:
                read_tensors(tmp_path / "b.pth", "checkpoint")
            except InputError as error:
                assert "\n" not in str(error)

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    def test_payloads_never_run(self, tmp_path):
        class Harmful:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "harm"),)

        torch.save(Harmful(), tmp_path / "a.pth")
        (tmp_path / "b.pth").write_bytes(pickle.dumps(Harmful()))
        for name in ("a.pth", "b.pth"):
            with pytest.raises(InputError):
                read_tensors(tmp_path / name, "checkpoint")
        assert not (tmp_path / "harm").exists()

    def test_an_empty_file_is_refused(self, tmp_path):
        (tmp_path / "a.pth").touch()
        with pytest.raises(InputError, match=r"a\.pth: not a whole checkpoint \(EOFError\)"):
            read_tensors(tmp_path / "a.pth", "checkpoint")


def test_a_digest_tells_contents_apart(tmp_path):
    for name, content in (("a", "x"), ("b", "x"), ("c", "y")):
        write_text(tmp_path / name, content)
    a, b, c = (file_digest(tmp_path / name) for name in "abc")
    assert a == b == hashlib.sha256(b"x").hexdigest()[:12] != c


@pytest.mark.slow
def test_a_read_only_disk_is_one_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match=r"/a: cannot be written: Read-only file system; what was"):
        write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
