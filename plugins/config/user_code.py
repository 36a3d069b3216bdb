"""Parts and keys of a user: import the modules that --plugins, PLUGINS and entry points name.

A module registers its parts when it is imported; ``add_config(cfg)`` in it adds its keys. Importing
runs code, so a name counts only where the user gives it: on the command line, in a config of the
user's own, or by installing a distribution with an entry point in the group ``fastreid_plugins``.
"""

import importlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from fastreid.config import CfgNode

from plugins.config.tree import ADDED_BY, flatten
from plugins.errors import InputError
from plugins.utils.names import closest_names
from plugins.utils.own_code import (
    IMPORTED,
    adds_nothing,
    call_mistake,
    code_digest,
    from_here,
    placed,
    registered_by,
    users_errors,
)
from plugins.utils.values import as_type_of, shortened

logger = logging.getLogger(__name__)

GROUP = "fastreid_plugins"  # of entry points
# What fastreid's registry says of a name that is taken.
TAKEN = re.compile(r"An object named '(\w+)' was already registered in '(\w+)' registry")


def split_names(names: str | Iterable[str]) -> list[str]:
    """Split names of modules and files, "a.py,b" or a list of such texts, into single ones.

    >>> split_names(["mine.py,pkg.parts", "more.py"])
    ['mine.py', 'pkg.parts', 'more.py']
    """
    texts = [names] if isinstance(names, str) else names
    split = [name.strip() for text in texts for name in text.split(",")]
    return list(dict.fromkeys(name for name in split if name))


def module_name(name: str) -> str:
    """Name the module that a file or a module is imported as.

    >>> module_name("work/mine.py"), module_name("pkg.parts")
    ('mine', 'pkg.parts')
    """
    return Path(name).stem if name.endswith(".py") else name


def installed_plugins() -> list[str]:
    """List the modules that installed distributions announce by entry points."""
    points = importlib.metadata.entry_points(group=GROUP)
    return sorted({point.module for point in points})


def import_plugins(sources: Mapping[str, str] | Iterable[str]) -> list[ModuleType]:
    """Import modules and files, each once in a process.

    The folder of a file joins ``sys.path`` at its end, so that worker processes can import the
    file by its name as well.

    Args:
        sources: names of modules and paths of files that end in .py; a mapping tells where each
            name was read, for messages.

    Returns:
        The modules, in the order of the names.

    Raises:
        InputError: there is no such file or module, the name is none of a module, another module
            has the file's name, or the code raises an exception or ends the process.
    """
    if not isinstance(sources, Mapping):
        sources = dict.fromkeys(sources, "--plugins")
    modules = [_import(name, f"{source} {name}") for name, source in sources.items()]
    code_digest()  # of the files as they were imported
    return modules


def add_user_keys(cfg: CfgNode, modules: Iterable[ModuleType]) -> None:
    """Let each module add its keys by ``add_config(cfg)``.

    Raises:
        InputError: ``add_config`` takes other arguments, fails, or takes away or changes a key that
            was there.
    """
    for module in modules:
        if not hasattr(module, "add_config"):
            continue
        before = dict(flatten(cfg))
        _call_add_config(module, cfg)
        after = dict(flatten(cfg))
        changed = [key for key, value in before.items() if key not in after or after[key] != value]
        if changed:
            raise InputError(
                f"{module.__name__}: add_config changes {changed[0]}, which is not its own; "
                "expected new keys alone"
            )
        ADDED_BY.update(dict.fromkeys(after.keys() - before.keys(), _file_of(module)))


def _call_add_config(module: ModuleType, cfg: CfgNode) -> None:
    label, file = f"{module.__name__}: add_config", _file_of(module)
    if not callable(module.add_config):
        found = shortened(module.add_config)
        raise InputError(f"{label} ({file}) is {found}; expected a function add_config(cfg)")
    if mistake := call_mistake(module.add_config, cfg):
        raise InputError(f"{label} ({file}): {mistake}; expected add_config(cfg)")
    with users_errors(label, file), placed(label, file):
        module.add_config(cfg)


def _file_of(module: ModuleType) -> str:
    return from_here(module.__file__) if module.__file__ else module.__name__


def why_recorded(file: str) -> str:
    """Say why the PLUGINS of a config count as the record of a run; "" where they do not.

    Folders of runs are passed on, so what they name runs only where the command line asks for it.
    """
    if Path(file).name == "config.yaml":
        return "a config.yaml is the record of a run"
    beside = sorted(path.name for path in Path(file).parent.glob("*.pth"))
    return f"beside checkpoints ({beside[0]}) a config is the record of a run" if beside else ""


def read_names(value: object, source: str) -> list[str]:
    """Read the value of PLUGINS in a config or on the command line."""
    try:
        names = as_type_of([], value)
    except ValueError as error:
        raise InputError(f"{source}: PLUGINS: {error}") from error
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{source}: PLUGINS: {names}; expected a list of names")
    return split_names(names)


def require_asked(names: Sequence[str], given: Sequence[str], source: str, why: str) -> None:
    """Raise InputError for names that a run's folder records and nobody asked for.

    Args:
        names: that the folder records.
        given: names of what is imported; modules of this process may be used as well.
        source: file that holds the record.
        why: see ``why_recorded``.
    """
    ready = {*map(module_name, given), *sys.modules}
    if missing := [name for name in names if module_name(name) not in ready]:
        words = shlex.quote(",".join(missing))
        raise InputError(
            f"{source}: PLUGINS names {', '.join(missing)}; {why}, and code that a record names is "
            f"imported only where you ask for it: add --plugins {words}"
        )


def _import(name: str, label: str) -> ModuleType:
    module = module_name(name)
    top = module.partition(".")[0]
    with users_errors(label):
        if name.endswith(".py"):
            _make_importable(Path(name), label)
        else:
            _require_module_name(name, label)
            if top not in sys.modules and importlib.util.find_spec(top) is None:
                _append_path(os.getcwd())
        try:
            with placed(label, name):
                imported = importlib.import_module(module)
        except AssertionError as error:  # of fastreid's registry
            if not (taken := TAKEN.search(str(error))):
                raise
            raise InputError(
                f"{label}: it registers the {taken[2]} {taken[1]}, as {registered_by(taken[1])} "
                "does already; expected another name"
            ) from error
    if imported.__file__ is None:
        raise InputError(
            f"{label}: a folder without __init__.py; expected a file (.py) or the name of a module"
        )
    if imported not in IMPORTED:
        IMPORTED.append(imported)
        if adds_nothing(imported):
            logger.warning(
                "%s: it was imported and adds nothing; a part needs its decorator, such as "
                "@LOSS.register(), a config key needs add_config(cfg)",
                label,
            )
    return imported


def _require_module_name(name: str, label: str) -> None:
    """Raise InputError for the path of a folder or of a file that does not end in .py."""
    what = "a folder" if Path(name).is_dir() else "a file" if Path(name).is_file() else ""
    is_name = all(part.isidentifier() for part in name.split("."))
    if (what == "a file" and "." in name) or not is_name:
        found = what or "no such file, and no module has such a name"
        raise InputError(f"{label}: {found}; expected a file (.py) or the name of a module")


def _make_importable(file: Path, label: str) -> None:
    """Put a file's folder on ``sys.path``, unless its name means another module."""
    if not file.is_file():
        if file.is_dir():
            raise InputError(f"{label}: a folder; expected a file (.py) or the name of a module")
        others = closest_names(file.name, (each.name for each in file.parent.glob("*.py")))
        near = f"; nearest there: {', '.join(others[:3])}" if others else ""
        raise InputError(f"{label}: no such file{near}")
    if file.stem in sys.modules:
        origin = getattr(sys.modules[file.stem], "__file__", None)
    elif spec := importlib.util.find_spec(file.stem):  # of the top level: runs nothing
        origin = spec.origin
    else:
        return _append_path(str(file.resolve().parent))
    if not (origin and os.path.exists(origin) and os.path.samefile(origin, file)):
        raise InputError(
            f"{label}: Python has another module {file.stem} ({origin}); expected a file with "
            "another name"
        )


def _append_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()
