r"""Train or evaluate what a config describes.

python tools/train_net.py --config-file configs/VVI/synthetic/sadstrm.yml
python tools/train_net.py --config-file logs/run/config.yaml --resume
python tools/train_net.py --config-file logs/run/config.yaml --eval-only \
    MODEL.WEIGHTS logs/run/model_final.pth

The first line trains and evaluates, the second goes on with a training, the third evaluates.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import ASSIGNMENT, KEY, add_config, command, new_parser, parse

TRAINED = "what was saved before is kept; the same command starts anew, {} it goes on"
RESUMED = {False: "with --resume", True: "with --resume in place of --overwrite"}
EVALUATED = "what was saved before is kept; the same command evaluates anew"


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse fastreid's options, but ``--resume`` also takes a checkpoint's path.

    fastreid reads the path in ``--resume logs/run/model_0010.pth`` as a config key, and flags that
    stand behind the first override as keys and values.
    """
    args = parse(run_parser(), words)
    if args.resume:
        path, args.opts = take_stray(args.opts)
        args.resume = path or True
    args.resumed_by = f"the same command {RESUMED[args.overwrite]}"
    return args


def run_parser() -> argparse.ArgumentParser:
    """Build fastreid's ``default_argument_parser`` with the head of our commands."""
    parser = new_parser(
        __doc__,
        failed="a result is not as TEST.EXPECTED_RESULTS says, or the run failed, as with a loss "
        "that is not finite",
    )
    add_config(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest checkpoint of OUTPUT_DIR; --resume FILE: from that checkpoint",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="start anew in an OUTPUT_DIR that holds a training: remove its checkpoints, results, "
        "metrics and evaluations",
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    parser.add_argument(
        "--print-model", action="store_true", help="log the layers of the network as well"
    )
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
    """Take out the word that stands where a key should and leaves the overrides odd.

    Returns:
        The word, empty where there is none, and the other words.

    >>> take_stray(["SEED", "1", "logs/run/model_0010.pth", "OUTPUT_DIR=logs/run"])
    ('logs/run/model_0010.pth', ['SEED', '1', 'OUTPUT_DIR=logs/run'])
    >>> take_stray(["SEDE", "1"])
    ('', ['SEDE', '1'])
    """
    words, index = list(words), 0
    while index < len(words):
        word, rest = words[index], words[index + 1 :]
        if not (ASSIGNMENT.match(word) or KEY.fullmatch(word)) and pairs_up(rest):
            return word, words[:index] + rest
        index += 1 if ASSIGNMENT.match(word) else 2
    return "", words


def pairs_up(words: Sequence[str]) -> bool:
    """Tell whether every key among KEY VALUE and KEY=VALUE overrides has a value."""
    index = 0
    while index < len(words):
        index += 1 if ASSIGNMENT.match(words[index]) else 2
    return index == len(words)


def kept(args: argparse.Namespace) -> str:
    """Say what is kept after a signal, and how to go on."""
    return EVALUATED if args.eval_only else TRAINED.format(RESUMED[args.overwrite])


@command(parse_arguments, kept=kept)
def main(args: argparse.Namespace) -> None:
    """Train or evaluate."""
    train(args, kept(args))


def train(args: argparse.Namespace, words: str) -> None:
    """Read the config, then run in one or several processes.

    Args:
        args: of the command line; ``resumed_by`` is what goes on with a training that was stopped.
        words: what is kept after a signal that comes before there is a checkpoint.
    """
    from plugins.engine import launch, read_cfg, run_rank

    cfg = read_cfg(args)
    launch(
        run_rank,
        args.num_gpus,
        args.num_machines,
        args.machine_rank,
        args.dist_url,
        cfg.MODEL.DEVICE,
        (cfg, args, words),
    )


if __name__ == "__main__":
    main()
