"""Find out before a run whether the files that it will open are there."""

import shlex
from collections.abc import Iterable
from typing import Any

from fastreid.config import CfgNode

from plugins.config import SPECS, flatten
from plugins.config.user_code import installed_plugins
from plugins.data.datasets.own_names import line_of
from plugins.errors import InputError
from plugins.utils.commands import command_line
from plugins.utils.real_files import find_missing

SHOWN = 3  # files in a message
# Keys of DATASETS that say which sets a run has; check_data takes one set by its name.
OF_RUNS = ("DATASETS.NAMES", "DATASETS.TESTS", "DATASETS.COMBINEALL")


def require_frames(
    data: Any, name: str, files: Iterable[str], split: str, cfg: CfgNode, key: str
) -> None:
    """Raise InputError unless all files that a run will open are there.

    Args:
        data: the data set.
        name: its registered name.
        files: paths of its files.
        split: split of the items that have them, for the lines that list them.
        cfg: config of the run.
        key: config key that names the set, for the message.
    """
    files = list(files)
    missing = find_missing(files)
    if not missing:
        return
    examples = []
    for file in missing[:SHOWN]:
        line = line_of(data, file, split)
        examples.append(f"{file} ({line})" if line else file)
    are = "is" if len(missing) == 1 else "are"
    raise InputError(
        f"{key} {name}: {len(missing)} of {len(set(files))} frames {are} missing: "
        f"{', '.join(examples)}{', ...' if missing[SHOWN:] else ''}; "
        f"{check_command(name, cfg)} lists all that cannot be read"
    )


def check_command(name: str, cfg: CfgNode | None = None) -> str:
    """Write the command that checks a data set as a run reads it.

    Args:
        name: the registered name.
        cfg: config of the run, whose settings of data sets are given on where they are not the
            defaults; None for the defaults.
    """
    words = [name]
    if cfg is not None:
        installed = installed_plugins()
        if plugins := [plugin for plugin in cfg.PLUGINS if plugin not in installed]:
            words += ["--plugins", ",".join(plugins)]
        settings = [*flatten(cfg.DATASETS, "DATASETS."), ("INPUT.MAX_PIXELS", cfg.INPUT.MAX_PIXELS)]
        for key, value in settings:
            if key not in OF_RUNS and not (key in SPECS and value == SPECS[key].default):
                words += [key, str(value)]
    return f"{command_line('check_data')} {shlex.join(words)}"
