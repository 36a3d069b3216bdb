"""Balance a training set with images of a diffusion generator (DDDefense, phase 1).

python tools/balance_data.py plan --config-file configs/Defense/synthetic/balance.yml
python tools/balance_data.py train --config-file configs/Defense/synthetic/balance.yml
python tools/balance_data.py measure --config-file configs/Defense/synthetic/balance.yml
python tools/balance_data.py generate --config-file configs/Defense/synthetic/balance.yml
python tools/balance_data.py inspect --config-file configs/Defense/synthetic/balance.yml

plan: which images are missing. train: the generator. measure: how often it shows the person and the
camera asked for. generate: make the images, keep what a teacher and a camera classifier recognize.
inspect: a sheet of real beside generated images, and the counts before and after. train and
generate go on where they were stopped. To train on the result: DATASETS.NAMES
"('BalancedDataset',)" DATALOADER.SAMPLER_TRAIN CappedIdentitySampler.
"""

import argparse
import logging
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import add_config, command, new_parser, parse

if TYPE_CHECKING:
    from plugins.config import CfgNode


TASKS = ("plan", "train", "measure", "generate", "inspect")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    parser.add_argument("task", choices=TASKS, help="see above")
    add_config(parser, "config with DATASETS.BALANCE")
    return parse(parser)


@command(parse_arguments, kept="what was made before is kept; the same command goes on")
def main(args: argparse.Namespace) -> None:
    """Read the config, then do what the command line asks for, alone in the folder."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # before diffusers is imported: nothing is downloaded
    from plugins.balancing import runs
    from plugins.config import setup_cfg
    from plugins.engine.defaults import take_available_device
    from plugins.utils.locks import hold

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cfg = setup_cfg(args.config_file, args.opts, args.plugins)
    take_available_device(cfg)
    cfg.freeze()
    with hold(runs.balance_folder(cfg), "DATASETS.BALANCE.DIR", "balancing"):
        carry_out(args.task, cfg)


def carry_out(task: str, cfg: "CfgNode") -> None:
    """Do one of the five tasks and print where the result lies."""
    from plugins.balancing import runs
    from plugins.balancing.filling import acceptance_table
    from plugins.balancing.precision import precision_table

    if task == "plan":
        path, slots = runs.plan(cfg)
        for reason, number in Counter(slot.reason for slot in slots).items():
            print(f"{reason}: {number:,} slots")
        print(f"plan: {path}")
    elif task == "train":
        print(f"generator: {runs.train(cfg)}")
    elif task == "measure":
        judge, rows = runs.measure(cfg)
        print(f"The judge is right on {100 * judge.accuracy:.1f} % of real images.")
        print(precision_table(rows))
    elif task == "generate":
        print(f"manifest: {runs.generate(cfg)[0]}")
    else:
        pictures, outcomes = runs.inspect(cfg)
        print(acceptance_table(outcomes))
        for path in pictures:
            print(f"picture: {path}")


if __name__ == "__main__":
    main()
