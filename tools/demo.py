"""Render walking people, train SADSTRM on them, evaluate it, and say what lies where.

python tools/demo.py
python tools/demo.py --quick

It takes a few minutes on two CPU cores, and writes into the working folder: the data set into
FASTREID_DATASETS (datasets by default), the run into logs/demo. A second call trains anew there; in
a folder of --out, or with other people, it asks for --overwrite. --quick shows in seconds that all
parts work: its people are too small and too few for its scores to mean anything.
"""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from . import train_net
from .commands import as_called
from .head import add_overrides, add_workers, check_workers, command, new_parser, parse

CONFIG, DATA, OUT = "VVI/synthetic/sadstrm.yml", "HITSZ-VCM", Path("logs/demo")
# Rendered people and run of --quick.
QUICK_PEOPLE: dict = {
    **{"train_ids": 4, "test_ids": 3, "train_cameras": 2, "test_cameras": 2, "cameras": 4},
    **{"height": 32, "width": 16, "max_frames": 12},
}
QUICK = [
    *("INPUT.SIZE_TRAIN", "[32,16]", "INPUT.SIZE_TEST", "[32,16]", "INPUT.CLIP.LENGTH", "2"),
    *("MODEL.TEMPORAL.STIG.STRIPES", "2", "MODEL.TEMPORAL.STIG.COLUMNS", "2"),
    *("DATALOADER.NUM_WORKERS", "0"),
    *("SOLVER.MAX_EPOCH", "1", "SOLVER.WARMUP_EPOCHS", "0", "SOLVER.IMS_PER_BATCH", "8"),
    *("SOLVER.ADVERSARY.START_EPOCH", "0", "TEST.EXPECTED_RESULTS", "[]"),
]


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(
        __doc__, failed="the results are not those that the config expects, or the run failed"
    )
    parser.add_argument(
        "--out", type=Path, default=OUT, help=f"folder of the run, {OUT} by default"
    )
    parser.add_argument("--quick", action="store_true", help="few small people, one epoch")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace other rendered people, and the run in --out",
    )
    add_workers(parser)
    add_overrides(parser)
    return parse(parser)


KEPT = "the data set is kept if it is whole; the same command renders it if not, and trains anew"
TRAINED = "the data set is kept; the same command trains anew"


@command(parse_arguments, kept=KEPT)
def main(args: argparse.Namespace) -> None:
    """Render, train and evaluate, show."""
    from plugins.data import datasets_root
    from plugins.errors import InputError, require_output
    from plugins.synthetic.layouts import HITSZ_VCM
    from plugins.synthetic.settings import PRESETS
    from plugins.synthetic.writers import render_layout

    check_workers(args.workers)
    require_output("--out", args.out)
    if any(word.partition("=")[0] == "OUTPUT_DIR" for word in args.opts):
        raise InputError("OUTPUT_DIR: expected --out FOLDER, which names the folder of this run")
    data = Path(datasets_root(), DATA)
    people = dataclasses.replace(PRESETS["demo"], **(QUICK_PEOPLE if args.quick else {}))
    render_layout(HITSZ_VCM, data, people, args.workers, args.overwrite)
    # Before the user's words: a key without a value must not take one of these.
    words = ["--config-file", CONFIG, "OUTPUT_DIR", str(args.out)]
    words += ["--overwrite"] if args.overwrite or args.out == OUT else []
    words += [*(QUICK if args.quick else []), *args.opts]
    arguments = train_net.parse_arguments(words)
    config = shlex.quote(str(args.out / "config.yaml"))
    arguments.resumed_by = as_called(f"python tools/train_net.py --config-file {config} --resume")
    train_net.train(arguments, TRAINED)
    print(as_called(closing_words(data, args.out)))


def closing_words(data: Path, run: Path) -> str:
    """Say what lies where, and what to do next."""
    pictures = sorted((run / "pictures").glob("*.png"))
    config, weights = (shlex.quote(str(run / name)) for name in ("config.yaml", "model_final.pth"))
    report = f"python tools/robust_report.py --config-file {config} --out report"
    lines = [
        "",
        f"data set:          {data}",
        f"results:           {run / 'results.json'}",
        f"trained weights:   {run / 'model_final.pth'}",
        f"log, config:       {run / 'log.txt'}, {run / 'config.yaml'}",
        *(f"ranked clips:      {picture}" for picture in pictures),
        "next, attack it:   " + report + " \\",
        f"                       MODEL.WEIGHTS {weights} ATTACK.QUERIES 8",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
