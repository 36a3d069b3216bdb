"""Give every command its head: parser, config, overrides, plugins, --explain, --version.

Nothing here imports torch before a command has its arguments, so that --help, --version and
--explain answer at once. A command's module imports ``plugins`` inside its functions.
"""

import argparse
import contextlib
import difflib
import functools
import importlib.metadata
import io
import os
import re
import signal
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .commands import as_called

ROOT = Path(__file__).resolve().parents[1]
KEPT = "what was saved before is kept; the same command starts anew"
KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")
ASSIGNMENT = re.compile(r"[A-Za-z_][\w.]*=")


STATUSES = """\
exit status:
  0      done
  1      {failed}
  2      bad input: one line names it
  130    stopped by Ctrl-C: one line says what is kept
  143    stopped by SIGTERM, likewise"""


def new_parser(
    description: str | None, failed: str = "the run failed: one line says why"
) -> argparse.ArgumentParser:
    """Start the parser of a command.

    Args:
        description: docstring of its module: what it does, an example, what else is to know.
        failed: what exit status 1 means.
    """
    parser = _Parser(
        prog=Path(sys.argv[0]).name,
        description=as_called(description or ""),
        epilog=STATUSES.format(failed=textwrap.fill(failed, 70, subsequent_indent=" " * 9)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show versions and exit")
    return parser


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """Add --plugins and --explain."""
    parser.add_argument(
        "--plugins",
        action="append",
        default=[],
        metavar="FILE|MODULE",
        help="parts and keys of your own: files (.py) or modules, separated by commas; may be "
        "repeated",
    )
    parser.add_argument(
        "--explain",
        action="append",
        metavar="KEY",
        help="show default, values and meaning of a config key, or of all keys of a section, with "
        "--config-file its value there, and exit; may be repeated",
    )


def add_config(
    parser: argparse.ArgumentParser, about: str = "the config", required: bool = False
) -> None:
    """Add --config-file, the overrides, --plugins and --explain."""
    default = {} if required else {"default": ""}
    if not required:
        about += ": a path, or a config of the package, such as VVI/sadstrm.yml"
    parser.add_argument("--config-file", metavar="FILE", required=required, help=about, **default)
    add_plugins(parser)
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the overrides of the config."""
    parser.add_argument(
        "opts",
        nargs="*",
        default=[],
        metavar="KEY VALUE",
        help="overrides of the config, as KEY VALUE or KEY=VALUE; flags may stand among them",
    )


def parse(
    parser: argparse.ArgumentParser, words: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse a command line, with flags anywhere among the overrides; --explain ends the process.

    Args:
        parser: with all options of the command.
        words: of the command line; None for those of this process.

    Returns:
        The arguments; the overrides, as ``setup_cfg`` takes them, are its ``opts``.
    """
    words = sys.argv[1:] if words is None else list(words)
    if isinstance(parser, _Parser):
        parser.words = words
    _explain_first(words)
    return parser.parse_intermixed_args(join_negative(words))


def command(
    parse_arguments: Callable[[], argparse.Namespace],
    kept: str | Callable[[argparse.Namespace], str] = KEPT,
) -> Callable:
    """Make a command of ``main(args)``: parse, then import ``plugins``, then run.

    What ends it early is one line on stderr; see ``plugins.errors.user_errors``.

    Args:
        parse_arguments: reads the command line.
        kept: what is kept after a signal, and how to go on; or what says so of the arguments.
    """

    def decorate(main: Callable[[argparse.Namespace], int | None]) -> Callable[[], int | None]:
        @functools.wraps(main)
        def run() -> int | None:
            escape_unprintable(sys.stdout, sys.stderr)
            with end_at_once():
                args = parse_arguments()
                from plugins.errors import user_errors
            words = kept if isinstance(kept, str) else kept(args)
            return user_errors(kept=words)(main)(args)

        return run

    return decorate


def escape_unprintable(*streams: object) -> None:
    r"""Let streams write a character that their encoding lacks as its escape, such as \u5f20.

    Names in any script occur in messages and tables; a terminal of Windows may have no such
    encoding.
    """
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def end_at_once() -> Iterator[None]:
    """End the process with one line when a signal comes inside: nothing was begun there.

    An import cannot be interrupted by an exception: modules and extensions may swallow it.
    """

    def end(number: int, _: object) -> None:
        name = signal.Signals(number).name
        os.write(2, f"interrupted by {name}: nothing was begun\n".encode())
        os._exit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    caught = [n for n, handler in before.items() if handler is not signal.SIG_IGN]
    for number in caught:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add --workers, whose default is the number of CPUs."""
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")


def check_workers(workers: int, least: int = 1) -> None:
    """Raise InputError for a number of processes that helps nobody or that no machine bears."""
    from plugins.errors import InputError

    cpus = os.cpu_count() or 1
    most = max(16, 4 * cpus)
    if workers < least:
        raise InputError(f"--workers {workers}: expected {least} or more")
    if workers > most:
        raise InputError(
            f"--workers {workers}: expected {least} to {most}; this machine has {cpus} CPUs"
        )


def join_negative(words: Sequence[str]) -> list[str]:
    """Join each key with its negative value, so that argparse sees no flag in the value.

    >>> join_negative(["SEED", "-1", "--eval-only", "SOLVER.BASE_LR", "-1e-3"])
    ['SEED=-1', '--eval-only', 'SOLVER.BASE_LR=-1e-3']
    """
    joined: list[str] = []
    for word in words:
        if joined and KEY.fullmatch(joined[-1]) and re.match(r"-[^-h]", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _explain_first(words: Sequence[str]) -> None:
    """Answer --explain, before other arguments are missed or read."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    add_plugins(parser)
    parser.add_argument("--config-file", default="")
    asked, _ = parser.parse_known_args(words)
    if not asked.explain:
        return
    user_code = asked.plugins or asked.config_file
    names = [name for text in asked.explain for name in text.split(",")]
    needs_parts = user_code or importlib.metadata.entry_points(group="fastreid_plugins")
    with contextlib.nullcontext() if needs_parts else without_torch():
        from plugins.config.reference import explain
        from plugins.errors import user_errors

        lines = user_errors(explain)(names, asked.plugins, asked.config_file)
    sys.exit(show("\n".join(lines)))


@contextlib.contextmanager
def without_torch(*rooms: str) -> Iterator[None]:
    """Import modules of ``plugins`` inside this block without the package, which imports torch.

    The package registers all parts; what a process prints before it runs needs none. After the
    block these modules are forgotten, so that the package is imported as a whole.

    Args:
        rooms: packages in ``plugins`` whose own ``__init__`` is to be left out as well.
    """
    if "plugins" in sys.modules:
        yield
        return
    for name in ("plugins", *rooms):
        package = sys.modules[name] = types.ModuleType(name)
        package.__path__ = [str(ROOT.joinpath(*name.split(".")))]
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "plugins"]:
            del sys.modules[name]


def show(text: str) -> int:
    """Print a text, and return the exit status; a reader that has enough ends it without a word."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        print(text, flush=True)
    except OSError as error:
        print(f"error: standard output: cannot be written: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is buffered
        return 1
    return 0


class _Parser(argparse.ArgumentParser):
    """Report a wrong command line as every other mistake: one line, exit status 2.

    Attributes:
        words: the command line.
    """

    words: Sequence[str] = ()

    def print_help(self, file: Any = None) -> None:
        """Print the help, and end the process with status 1 where it cannot be written."""
        if status := show(self.format_help().removesuffix("\n")):
            self.exit(status)

    def error(self, message: str) -> NoReturn:
        """Print the line, with the nearest flag for one that does not exist."""
        kind, _, words = message.partition("unrecognized arguments: ")
        unknown = words.split() if words and not kind else []
        if "required" in message:  # perhaps because its name is misspelled
            unknown = [word for word in self.words or sys.argv[1:] if self._is_unknown(word)]
        if unknown:
            word = unknown[0]
            message = f"no argument {word[:60]}{self._nearest(word)}"
        line = " ".join(message.split())
        line = line if len(line) <= 500 else f"{line[:500]}..."
        self.exit(2, f"error: {line}; --help lists all arguments\n")

    def _is_unknown(self, word: str) -> bool:
        """Tell whether a word looks like a flag and neither is one nor abbreviates one."""
        name = word.partition("=")[0]
        flags = self._option_string_actions
        return word.startswith("--") and not any(flag.startswith(name) for flag in flags)

    def _nearest(self, word: str) -> str:
        flags = {flag.replace("-", ""): flag for flag in self._option_string_actions}
        name = word.partition("=")[0][:60].replace("-", "").replace("_", "")
        close = difflib.get_close_matches(name, flags, n=1)
        return f"; did you mean {flags[close[0]]}" if close and word.startswith("-") else ""


class _ShowVersion(argparse.Action):
    """Print the versions that decide a result, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser.exit(show(versions()))


def versions() -> str:
    """Write the versions of this package, of fastreid and of torch."""
    source = (ROOT / "plugins/__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'__version__ = "(.+)"', source)
    others = [f"{name} {importlib.metadata.version(name)}" for name in ("fastreid", "torch")]
    return f"fastreid-plugins {version}, {', '.join(others)}"
