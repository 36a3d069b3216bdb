"""Write files atomically, and read files verified.

A file is written under a temporary name of its own, synced and renamed, so that a reader sees the
old contents or the new ones, whenever the writer is killed. A file is read whole and verified; a
file that cannot be read or written raises an InputError of one line.
"""

import codecs
import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from plugins.errors import DISK_FULL, InputError, RunFailed
from plugins.utils.values import json_value

# torch.hub and torchvision put the first hexadecimal digits of a file's SHA-256 into its name.
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
FOREIGN_OBJECT = re.compile(r"GLOBAL ([\w.]+)")


def write_atomically(path: str | os.PathLike, write: Callable[[BinaryIO], object]) -> None:
    """Call ``write(file)`` on a new file beside ``path``, then give the file that name.

    Args:
        path: file to write; its folder must exist.
        write: writes the contents into a binary file that is open for writing.

    Raises:
        InputError: the disk is read-only, or the folder does not take the file.
        RunFailed: the disk is full. What was at ``path`` is still there, as after every error.
    """
    path = Path(path)
    remove_leftovers(path)
    with write_errors(path), _exclusive(path) as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
        os.replace(file.name, path)
    _sync_folder(path.parent)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write a file atomically."""
    write_atomically(path, lambda file: file.write(content))


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write ``text`` as UTF-8, with its line ends as they are; see :func:`write_atomically`."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: str | os.PathLike, value: object, indent: int | None = 2) -> None:
    """Write ``value`` as JSON, with a line end at the end; see :func:`write_atomically`."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def write_tensors(path: str | os.PathLike, value: object) -> None:
    """Write tensors and plain values with ``torch.save``; see :func:`write_atomically`."""
    import torch  # here, since the text and JSON of a command need no torch

    write_atomically(path, lambda file: torch.save(value, file))


def make_folder(path: str | os.PathLike, option: str = "") -> Path:
    """Make a folder and those above it, and find out whether files can be written there.

    Args:
        path: folder to make; it may exist.
        option: option or key that names the folder, such as "OUTPUT_DIR", for the message.

    Raises:
        InputError: the folder cannot be made or does not take a file.
    """
    path = Path(path)
    said = f"{option} {path}".strip()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with _exclusive(path / "probe") as file:
            file.write(b"0")
    except FileExistsError:
        raise InputError(f"{said}: a file; expected a folder") from None
    except NotADirectoryError:
        (above,) = [p for p in path.parents if p.exists() and not p.is_dir()][:1]
        raise InputError(f"{said}: {above} is a file; expected a folder") from None
    except OSError as error:
        raise InputError(f"{said}: cannot write there: {error.strerror}") from error
    return path


@contextlib.contextmanager
def write_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn an operating system's refusal to write ``path`` into an error of one line.

    The refusal may lie below another exception: torch.save covers a full disk with a RuntimeError.

    Raises:
        InputError: the place does not take the file, as a read-only disk does.
        RunFailed: the disk is full.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        refusal: BaseException | None = error
        while refusal is not None and not isinstance(refusal, OSError):
            refusal = refusal.__cause__ or refusal.__context__
        if refusal is None:
            raise
        short = refusal.errno is None  # numpy does not tell why it wrote less than it was asked to
        kind = RunFailed if short or refusal.errno in DISK_FULL else InputError
        said = f"{refusal} (a full disk?)" if short else refusal.strerror
        raise kind(f"{path}: cannot be written: {said}; what was saved before is kept") from error


@contextlib.contextmanager
def full_disk_named(path: str | os.PathLike) -> Iterator[None]:
    """Name ``path`` in the error of a full disk that names no file, as that of a flush does."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[BinaryIO]:
    """Open a new file beside ``path``, locked while it is written; afterwards its name is gone.

    Yields:
        The file, open for writing; its ``name`` is the temporary one.
    """
    file = _new_file(path)
    try:
        with file:
            yield file
    finally:
        Path(file.name).unlink(missing_ok=True)


def _new_file(path: Path) -> BinaryIO:
    while True:
        name = path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}.tmp")
        # "x": a symbolic link that somebody has planted there is not followed.
        file = open(name, "xb")  # noqa: SIM115
        _lock(file)
        if name.exists():  # else another process took it for a leftover before it was locked
            return file
        file.close()


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of ``path`` whose writers were killed: nobody holds their locks."""
    pattern = re.compile(rf"\.{re.escape(path.name[:80])}\.[0-9a-f]{{16}}\.tmp")
    with contextlib.suppress(OSError):
        for entry in [*os.scandir(path.parent)]:
            if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError), open(entry, "rb") as file:
                    if _lock(file, wait=False):
                        os.unlink(entry)


def _lock(file: BinaryIO, wait: bool = True) -> bool:
    """Lock an open file; return False where another process holds it or there are no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Make a new name in the folder outlast a power failure, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def require_file(path: str | os.PathLike, option: str = "", pattern: str = "*.pth") -> None:
    """Raise InputError unless ``path`` is a regular file; files in a folder are offered.

    Args:
        path: of the file.
        option: what names the file, such as "MODEL.WEIGHTS", for the message.
        pattern: names of the files that are offered; checkpoints by default.
    """
    file, said = Path(path), f"{option} {path}".strip()
    if file.is_dir():
        inside = sorted(file.glob(pattern), key=lambda each: each.stat().st_mtime, reverse=True)
        offered = f", such as {', '.join(map(str, inside[:3]))}" if inside else ""
        raise InputError(f"{said}: a folder; expected a file{offered}")
    if not file.is_file():
        raise InputError(f"{said}: {'not a regular file' if file.exists() else 'no such file'}")


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a regular file for reading.

    Raises:
        InputError: there is no such file, it is none, or it cannot be read.
    """
    require_file(path)
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        yield file


def read_bytes(path: str | os.PathLike) -> bytes:
    """Read the contents of a regular file.

    Raises:
        InputError: there is no such file, it is none, or it cannot be read.
    """
    with _opened(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def read_text(path: str | os.PathLike, *, keep_line_ends: bool = False) -> str:
    r"""Read a text file in UTF-8, with or without a byte order mark.

    Args:
        path: file to read.
        keep_line_ends: leave ``\r\n`` and ``\r`` as they are, as the ``csv`` module wants them;
            else every line ends in ``\n``.

    Raises:
        InputError: there is no such file, it cannot be read, or a byte is not UTF-8; the message
            names the byte and its line.
    """
    data = read_bytes(path).removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        raise InputError(
            f"{path}:{line}: byte {column} of the line, 0x{data[error.start]:02x}, is not UTF-8; "
            "expected a text file in UTF-8: save it in that encoding"
        ) from None
    return text if keep_line_ends else text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str | os.PathLike, expected: str = "JSON") -> Any:
    """Read the value in a JSON file.

    Args:
        path: file to read.
        expected: contents that the file should have, for the message.

    Raises:
        InputError: from :func:`read_text`, or the text is no JSON; the message names the line.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: {error.msg}; expected {expected}") from error
    except ValueError:  # Python reads no more than 4300 digits
        raise InputError(f"{path}: a number has too many digits; expected {expected}") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply; expected {expected}") from None


def read_mapping(path: str | os.PathLike, expected: str) -> dict[str, Any]:
    """Read the mapping in a JSON file.

    Args:
        path: file to read.
        expected: contents that the file should have, for the message.

    Raises:
        InputError: from :func:`read_json`, or the value is something else.
    """
    value = read_json(path, expected)
    if not isinstance(value, dict):
        raise InputError(f"{path}: found {json_value(value)}; expected a mapping, {expected}")
    return value


def require_fields(path: str | os.PathLike, **types: type) -> dict[str, Any]:
    """Read entries of the mapping in a JSON file.

    Args:
        path: file to read.
        **types: the entries that are taken, and the type that each has.

    Raises:
        InputError: from :func:`read_mapping`, or an entry is missing or has another type.
    """
    wanted = ", ".join(f"{name} ({each.__name__})" for name, each in types.items())
    found = read_mapping(path, f"with {wanted}")
    for name, expected in types.items():
        if not isinstance(value := found.get(name), expected):
            raise InputError(f"{path}: {name}: found {json_value(value)}; expected {wanted}")
    return {name: found[name] for name in types}


def read_tensors(path: str | os.PathLike, kind: str) -> object:
    """Read a file of ``torch.save``: tensors and plain values, verified; no other object is made.

    A zip file, as torch has written since version 1.6, is checked against its own checksums. An
    older file is checked against the hash in its name, as in ``resnet50-19c8e357.pth``.

    Args:
        path: file to read.
        kind: the kind of file that is expected, such as "checkpoint", for the message.

    Raises:
        InputError: there is no such file, it is damaged, or it holds other objects.
    """
    import torch

    try:
        # torch warns of a plain pickle in two lines before it refuses what this function refuses.
        with _opened(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _verify(file, Path(path), kind)
            return torch.load(file, map_location="cpu", weights_only=True)
    except InputError:
        raise
    # A damaged pickle raises nearly anything: UnicodeDecodeError, KeyError, MemoryError ...
    except Exception as error:
        if foreign := FOREIGN_OBJECT.search(str(error)):
            raise InputError(
                f"{path}: holds {foreign[1]}, which is not read, for safety; expected tensors and "
                "plain values: save its state dict alone"
            ) from error
        raise InputError(f"{path}: not a whole {kind} ({type(error).__name__})") from error


def _verify(file: BinaryIO, path: Path, kind: str) -> None:
    """Raise InputError if the contents are not those that were written; rewinds the file."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
            parts = {name.partition("/")[2] for name in archive.namelist()}
        if "constants.pkl" in parts:
            raise InputError(
                f"{path}: a TorchScript file; expected a {kind}: save its state dict alone, with "
                "torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)"
            )
        if damaged:
            raise InputError(f"{path}: damaged: the checksum of its part {damaged} is wrong")
    elif match := HASH_IN_NAME.search(path.name):
        file.seek(0)
        digest = _sha256(file)[: len(match[1])]
        if digest != match[1]:
            raise InputError(
                f"{path}: damaged: its name holds the hash {match[1]}, its contents have {digest}"
            )
    file.seek(0)


def file_digest(path: str | os.PathLike) -> str:
    """Return twelve hexadecimal digits that identify the contents of a file."""
    with _opened(path) as file:
        return _sha256(file)[:12]


def _sha256(file: BinaryIO) -> str:
    return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()
