"""Parse the command lines of the tools: flags anywhere among KEY VALUE and KEY=VALUE overrides."""

import argparse
import os
import re
import sys
from collections.abc import Sequence

from plugins.config import ASSIGNMENT, default_cfg, flatten
from plugins.errors import InputError


def parse_with_overrides(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse a command line whose last part are overrides of the config, with flags among them.

    Args:
        parser: with everything else that the command takes.
        arguments: of the command; None for those of this process.

    Returns:
        The arguments; the overrides, as ``setup_cfg`` takes them, are its ``opts``.
    """
    parser.add_argument(
        "opts",
        nargs="*",
        default=[],
        metavar="KEY VALUE",
        help="overrides of the config, as KEY VALUE or KEY=VALUE; flags may stand among them",
    )
    words = sys.argv[1:] if arguments is None else arguments
    return parser.parse_intermixed_args(join_negative(words))


def join_negative(words: Sequence[str]) -> list[str]:
    """Join each key with its negative value, so that argparse sees no flag in the value.

    >>> join_negative(["SEED", "-1", "--eval-only", "SOLVER.BASE_LR", "-1e-3"])
    ['SEED=-1', '--eval-only', 'SOLVER.BASE_LR=-1e-3']
    """
    keys, joined = known_keys(), []
    for word in words:
        if joined and joined[-1] in keys and re.match(r"-[^-]", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def parse_arguments(description: str, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line of a run: fastreid's, but ``--resume`` also takes a checkpoint's path.

    fastreid reads the path in ``--resume logs/run/model_0010.pth`` as a config key, and flags that
    stand behind the first override as keys and values.

    Raises:
        InputError: there is no such checkpoint.
    """
    args = parse_with_overrides(run_parser(description), arguments)
    if args.resume:
        path, args.opts = take_stray(args.opts)
        args.resume = path or True
        if path and not os.path.isfile(path):
            raise InputError(f"--resume {path}: no such file")
    return args


def run_parser(description: str) -> argparse.ArgumentParser:
    """Build fastreid's ``default_argument_parser`` without its overrides."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config-file", default="", metavar="FILE", help="path of the config")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest checkpoint of OUTPUT_DIR; --resume FILE: from that checkpoint",
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes on this machine")
    parser.add_argument("--num-machines", type=int, default=1, help="machines that take part")
    parser.add_argument("--machine-rank", type=int, default=0, help="rank of this machine, from 0")
    # A port of the user's own, so that runs of two users on a machine do not meet.
    user = os.getuid() if sys.platform != "win32" else 1
    port = 2**15 + 2**14 + hash(user) % 2**14
    parser.add_argument(
        "--dist-url", default=f"tcp://127.0.0.1:{port}", help="address of the first process"
    )
    return parser


def take_stray(words: Sequence[str]) -> tuple[str, list[str]]:
    """Take out the one word that stands where a key should and leaves the overrides odd.

    Returns:
        The word, empty where there is none, and the other words.

    >>> take_stray(["SEED", "1", "logs/run/model_0010.pth", "OUTPUT_DIR=logs/run"])
    ('logs/run/model_0010.pth', ['SEED', '1', 'OUTPUT_DIR=logs/run'])
    >>> take_stray(["SEDE", "1"])
    ('', ['SEDE', '1'])
    """
    words, index = list(words), 0
    known = known_keys()
    while index < len(words):
        word, rest = words[index], words[index + 1 :]
        if not ASSIGNMENT.match(word) and word not in known and pairs_up(rest):
            return word, words[:index] + rest
        index += 1 if ASSIGNMENT.match(word) else 2
    return "", words


def known_keys() -> set[str]:
    """List the keys that a config has."""
    return {key for key, _ in flatten(default_cfg())}


def pairs_up(words: Sequence[str]) -> bool:
    """Tell whether every key among KEY VALUE and KEY=VALUE overrides has a value."""
    index = 0
    while index < len(words):
        index += 1 if ASSIGNMENT.match(words[index]) else 2
    return index == len(words)
