"""What the commands that use the folder of a run share: its arguments, and the model in it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .head import add_config

if TYPE_CHECKING:
    from plugins.inference import Embedder


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the run, the first argument."""
    parser.add_argument("run", type=Path, help="folder of a run, or a file of weights")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add --config-file, the overrides, --plugins, --explain and --weights, after the run."""
    add_config(parser, "config to use; default: config.yaml in the folder of the run")
    parser.add_argument("--weights", default="", help="default: the newest checkpoint of the run")


def open_run(args: argparse.Namespace) -> "Embedder":
    """Load the model of the run, with the arguments of this module."""
    from plugins.inference import Embedder

    return Embedder(
        args.run,
        config=args.config_file,
        weights=args.weights,
        opts=args.opts,
        plugins=args.plugins,
    )
