"""Modules of a user in tests: files outside the package, and a process that forgets them."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from plugins import registry
from plugins.config import SPECS
from plugins.config.tree import ADDED_BY
from plugins.robustness.checks import CHECKS
from plugins.utils.own_code import IMPORTED

OWN_PARTS = Path(__file__).with_name("own_parts.py")
USERS_PARTS = Path(__file__).with_name("users_parts.py")


@contextlib.contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Restore modules, path, registries and descriptions of keys, which belong to the process."""
    registries = [part for part in vars(registry).values() if hasattr(part, "_obj_map")]
    parts = [dict(each._obj_map) for each in registries]
    modules, path, specs = set(sys.modules), list(sys.path), dict(SPECS)
    checks, imported, added_by = list(CHECKS), list(IMPORTED), dict(ADDED_BY)
    try:
        yield
    finally:
        for each, before in zip(registries, parts, strict=True):
            each._obj_map = before
        added = set(sys.path) - set(path)
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and str(Path(file).parent) in added:
                del sys.modules[name]
        sys.path[:] = path
        CHECKS[:] = checks
        IMPORTED[:] = imported
        SPECS.clear()
        SPECS.update(specs)
        ADDED_BY.clear()
        ADDED_BY.update(added_by)
