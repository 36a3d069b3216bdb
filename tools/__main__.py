"""Run a command by its name; ``fastreid-plugins NAME --help`` tells what it takes.

``python -m fastreid_plugins NAME`` and, in a checkout, ``python -m tools NAME`` do the same.
"""

import difflib
import importlib
import os
import sys
from pathlib import Path

if not __package__:  # python tools
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name
    __spec__ = None  # it is that of a program without a package, and the two are compared

from .commands import COMMANDS, GROUPS

HERE = Path(__file__).resolve().parent
INSTALLED = __package__ == "fastreid_plugins"
PROGRAM = "fastreid-plugins" if INSTALLED else f"python -m {__package__}"

HEAD = """\
usage: {program} COMMAND [ARGUMENTS]

Visible-infrared video person re-ID, attacks and defenses, as plugins of fast-reid.

  {program} demo
  {program} check-data HITSZVCM
  {program} train --config-file VVI/sadstrm.yml
"""
TAIL = """\

options:
  -h, --help         show this text and exit; COMMAND --help tells what a command takes
  --version          show versions and exit

exit status:
  0      done
  1      the run failed; COMMAND --help says what that means
  2      bad input: one line names it
  130    stopped by Ctrl-C: one line says what is kept
  143    stopped by SIGTERM, likewise\
"""


def main() -> int | None:
    """Run the command that the command line names; return its exit status."""
    name, words = (sys.argv[1:2] or ["--help"])[0], sys.argv[2:]
    if name in ("-h", "--help", "help", "--version"):
        from .head import show, versions

        return show(versions() if name == "--version" else overview())
    if name not in COMMANDS:
        return refuse(name)
    command = COMMANDS[name]
    sys.argv = [f"{PROGRAM} {name}", *command.words, *words]
    require_own_folder()
    return importlib.import_module(f".{command.file}", __package__).main()


def overview() -> str:
    """Write the list of commands, each with what it does."""
    lines = [HEAD.format(program=PROGRAM)]
    for group, commands in GROUPS.items():
        lines.append(f"{group}:")
        lines += [f"  {name:18} {command.summary}" for name, command in commands.items()]
    return "\n".join([*lines, TAIL])


def refuse(name: str) -> int:
    """Tell that there is no such command, with the nearest one; return the exit status."""
    known = {file: name for name, (file, *_) in reversed(COMMANDS.items())}
    known |= {name: name for name in (*COMMANDS, "--help", "--version")}
    close = difflib.get_close_matches(name.lower()[:60], known, n=1, cutoff=0.5)
    nearest = f"did you mean {known[close[0]]}? " if close else ""
    line = " ".join(name[:60].split())
    print(f"error: no command '{line}'; {nearest}--help lists all commands", file=sys.stderr)
    return 2


def require_own_folder() -> None:
    """Take the working folder, which ``python -m`` puts first, from ``sys.path``.

    A folder named ``plugins`` there must not stand in for the package that lies beside this one.
    """
    try:
        here = os.path.realpath(os.getcwd())
    except FileNotFoundError:
        sys.exit("error: the working folder was removed; change to one that is there")
    if INSTALLED and os.path.realpath(sys.path[0] or here) == here != str(HERE.parent):
        del sys.path[0]


if __name__ == "__main__":
    sys.exit(main())
