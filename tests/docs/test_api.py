"""The page of what is public: each name exists, none is left out, and none changes unseen."""

import importlib
import json
import re

import pytest

from tests.docs.names import page, resolve, section, table_rows
from tests.docs.snapshot import (
    FILE,
    command_options,
    file_formats,
    public_names,
    registered_names,
    registered_parts,
    snapshot,
)
from tools.commands import COMMANDS

NAMES = public_names()
NO_COMMANDS = ("tools/commands.py", "tools/head.py", "tools/trained.py")
SEEN = "if users are to see this change, run: python -m tests.docs.snapshot"


@pytest.mark.parametrize("module", NAMES)
def test_all_names_of_a_public_module_are_on_the_page_once(module):
    names = NAMES[module]
    missing = {name for name in names if not hasattr(importlib.import_module(module), name)}
    assert names and not missing, f"{module} has no {', '.join(sorted(missing))}"
    assert len(names) == len(set(names))
    exported = set(getattr(importlib.import_module(module), "__all__", ()))
    unlisted = ", ".join(sorted(exported - set(names)))
    assert not unlisted, f"docs/api.md: {module} lacks {unlisted}, which __all__ exports"
    if exported:
        private = ", ".join(sorted(set(names) - exported))
        assert not private, f"{module}.__all__ lacks {private}, which docs/api.md lists"


def test_the_page_lists_what_is_registered():
    listed = {name: sorted(parts) for name, parts in registered_names().items()}
    assert listed == registered_parts()


def test_the_page_says_identifier_and_version_of_each_file():
    rows = table_rows(section(page("api.md"), "Files").split("\n\nThese files have no")[0])
    told = {row[3].strip("`"): [row[1].strip("`"), int(row[2])] for row in rows}
    assert told == file_formats()


def test_the_page_lists_all_commands():
    rows = table_rows(section(page("api.md"), "Commands"))
    told = {row[1].strip("`"): row[0] for row in rows if row[1].startswith("`tools/")}
    assert sorted(told) == [name for name in command_options() if name not in NO_COMMANDS]
    named = {name: file for file, names in told.items() for name in re.findall(r"`(.+?)`", names)}
    assert named == {name: f"tools/{command.file}.py" for name, command in COMMANDS.items()}


@pytest.mark.parametrize(
    "name",
    [
        row[2].strip("`")
        for row in table_rows(section(page("api.md"), "Files").split("These files have no")[1])
    ],
)
def test_a_writer_of_files_exists(name):
    assert name.startswith("fastreid, ") or resolve(name) is not None


@pytest.mark.parametrize("part", snapshot())
def test_nothing_public_changes_unseen(part):
    before, now = json.loads(FILE.read_text(encoding="utf-8"))[part], snapshot()[part]
    if isinstance(now, dict):
        changes = [
            f"{name}: {before.get(name, 'nothing')} -> {now.get(name, 'nothing')}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
    else:
        changes = [f"-{name}" for name in before if name not in now]
        changes += [f"+{name}" for name in now if name not in before]
    assert not changes, "\n".join([SEEN, *changes])
    assert before == now, SEEN
