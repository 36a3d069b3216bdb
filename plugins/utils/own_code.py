"""Code of a user beside that of this package: tell the two apart, and name place and fault."""

import functools
import hashlib
import inspect
import os
import secrets
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from plugins.errors import EXPLAINERS, InputError, one_line
from plugins.utils.io import file_digest
from plugins.utils.names import closest_names

OWN = ("plugins", "fastreid", "torch")  # packages whose parts are no user's
# Modules that --plugins, PLUGINS and entry points named in this process.
IMPORTED: list[ModuleType] = []
# Functions that list the parts of this process, of the package and of users.
PARTS: list[Callable[[], Iterable[object]]] = []


def is_users(part: object) -> bool:
    """Tell whether a class or a function, or the class of an object, is a user's."""
    module = getattr(part, "__module__", None) or type(part).__module__
    return module.partition(".")[0] not in OWN


def file_of(part: object) -> str:
    """Return the file of a class, a function or an object, from here if it lies below; or ""."""
    code = part if inspect.isclass(part) or inspect.isroutine(part) else type(part)
    try:
        return from_here(inspect.getfile(code))
    except (TypeError, OSError):  # made in a shell
        return ""


def code_digest() -> str:
    """Hash the files of users' code that this process has imported; "" where there is none.

    They are the modules of ``IMPORTED``, those beside them, and those of registered parts. A file
    is read when it is first asked for, as later changes of it are not what this process runs. Code
    without a file, as of a notebook, counts as new in each process.
    """
    parts = (part for listed in PARTS for part in listed())
    names = {getattr(part, "__module__", "") for part in parts if is_users(part)}
    files = {getattr(sys.modules.get(name), "__file__", None) for name in names}
    if IMPORTED:
        loaded = [(name, getattr(module, "__file__", None)) for name, module in sys.modules.items()]
        files |= {file for name, file in loaded if file and _is_imported(name, file)}
    digests = sorted(_digest(file) if file else _NO_FILE for file in files)
    return hashlib.sha256(" ".join(digests).encode()).hexdigest() if digests else ""


# Stands for code without a file.
_NO_FILE = secrets.token_hex(32)


# Of a file as it was when this process first asked.
_digest = functools.cache(file_digest)


def from_here(file: str) -> str:
    """Write a path from the working directory if it lies below."""
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def described(name: str, part: object) -> str:
    """Write a name with the file of the part that has it, such as "FrameVotes (votes.py)"."""
    file = file_of(part)
    return f"{name} ({file})" if file else name


def call_mistake(function: Callable, *arguments: object, **named: object) -> str:
    """Say why a function cannot be called with these arguments; "" where it can."""
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError as error:
        return str(error)
    except ValueError:  # a built-in function tells no signature
        pass
    return ""


def fault(error: BaseException, file: str = "") -> str:
    """Write an exception of a user's code in one line: its kind, its place and its message.

    Args:
        error: with its traceback.
        file: of the code; the innermost line in it is the place; "" for the innermost of all.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file and same_path(frame.filename, file)]
    named = isinstance(error, SyntaxError | ImportError) or not frames  # its message has the place
    frame = None if named else (own or frames)[-1]
    place = f" in {(own and file) or frame.filename}:{frame.lineno}" if frame else ""
    return f"{type(error).__name__}{place}: {_message(error)}".removesuffix(": ")


def _message(error: BaseException) -> str:
    """Write the message of an exception; of a missing config key, which is its name alone, more."""
    name, frames = str(error), list(traceback.walk_tb(error.__traceback__))
    section = frames[-1][0].f_locals.get("self") if frames else None
    if isinstance(error, AttributeError) and isinstance(section, dict) and name.isidentifier():
        return f"no config key {name}; nearest: {', '.join(closest_names(name, section)[:3])}"
    return one_line(error)


def users_fault(error: BaseException) -> InputError | None:
    """Tell an exception of a user's code in one line, with its place; return None for any other.

    The exception is the user's if no call leads from the user's code back into this package: the
    innermost frame, other libraries left aside, lies in a module of ``IMPORTED`` or beside one.
    """
    innermost = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] == OWN[0]:
            innermost = None
        elif _is_imported(module, frame.f_code.co_filename):
            innermost = frame.f_code
    if innermost is None:
        return None
    return InputError(f"{innermost.co_qualname}: {fault(error, from_here(innermost.co_filename))}")


EXPLAINERS.append(users_fault)


def _is_imported(module: str, file: str) -> bool:
    """Tell whether a module, or a file beside it, is among ``IMPORTED``."""
    packages = {each.__name__.partition(".")[0] for each in IMPORTED}
    files = [each.__file__ for each in IMPORTED if each.__file__]
    beside = Path(file).parent in {Path(each).parent for each in files}
    return module.partition(".")[0] in packages or (beside and "site-packages" not in file)


@contextmanager
def placed(label: str, file: str) -> Iterator[None]:
    """Name the line of a user's file that called what raises an InputError in this block.

    Args:
        label: what the code is; begins the message.
        file: of the code.
    """
    try:
        yield
    except InputError as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if same_path(frame.filename, file)]
        place = f"in {file}:{lines[-1]}: " if lines else ""
        raise InputError(f"{label}: {place}{error}") from error


def same_path(one: str, other: str) -> bool:
    """Tell whether two paths are written for one file."""
    return os.path.abspath(one) == os.path.abspath(other)


def adds_nothing(module: ModuleType) -> bool:
    """Tell whether a module of a user added neither a part nor a config key."""
    if hasattr(module, "add_config"):
        return False
    package = module.__name__.partition(".")[0]
    modules = {getattr(part, "__module__", "") for listed in PARTS for part in listed()}
    return package not in {name.partition(".")[0] for name in modules}


def registered_by(name: str) -> str:
    """Write the part of some name with its file, such as "Votes (votes.py)"."""
    parts = (part for listed in PARTS for part in listed())
    part = next((part for part in parts if getattr(part, "__name__", "") == name), None)
    return name if part is None else described(name, part)


def unregistered(name: str, registry: str) -> str:
    """Say why a name may be unknown, from the modules of the user that were imported.

    Args:
        name: that nothing is registered as.
        registry: name of the registry, such as "LOSS".
    """
    for module in IMPORTED:
        if vars(module).get(name) is not None:
            return (
                f"{described(name, vars(module)[name])} was imported and is not registered: add "
                f"@{registry}.register() above it"
            )
    if IMPORTED:
        return f"--plugins brought {', '.join(module.__name__ for module in IMPORTED)}"
    return "--plugins brings parts of your own"


@contextmanager
def users_errors(label: str, file: str = "") -> Iterator[None]:
    """Turn an exception of a user's code into an InputError of one line that names the place.

    Args:
        label: what the code is and where it was named; begins the message.
        file: see :func:`fault`.
    """
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a command must not end as if it had run
        raise InputError(f"{label}: {fault(error, file)}") from error
