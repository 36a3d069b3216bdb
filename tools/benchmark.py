r"""Measure speed and memory beside fastreid, or beside another version of this package.

python tools/benchmark.py all --quick
python tools/benchmark.py ranking rerank --out benchmark.json

Both ways run in turn, so that other work on the machine slows both; the fastest run of each counts.
A ratio is theirs / ours, above 1 this package is ahead. Results are compared too: a difference ends
the command. Peak memory is that of a process of its own, beyond the features that it is given.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import command, new_parser, parse


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "subjects",
        nargs="+",
        metavar="SUBJECT",
        help="ranking, rerank, loader, step, attack, features, evaluation, startup, report, or all",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, for a first look")
    parser.add_argument("--out", type=Path, help="write machine and rows to this .json file")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FOLDER",
        help="checkout of another version of this package, beside which start-up and a report are "
        "measured",
    )
    return parse(parser)


@command(parse_arguments, kept="nothing was written; the same command starts anew")
def main(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    from plugins.benchmarks import SUBJECTS, Settings, benchmark, benchmark_table
    from plugins.errors import InputError, require_output
    from plugins.utils.io import write_json

    names = list(SUBJECTS) if "all" in args.subjects else args.subjects
    for name in names:
        if name not in SUBJECTS:
            raise InputError(f"subject {name}: expected {', '.join(SUBJECTS)} or all")
    if args.against and not (args.against / "plugins" / "__init__.py").is_file():
        raise InputError(f"--against {args.against}: expected a checkout with plugins/__init__.py")
    if "report" in args.subjects and not args.against:
        raise InputError("subject report: expected --against, the version that it is compared with")
    if args.out:
        require_output("--out", args.out, ".json")
    against = args.against.resolve() if args.against else None
    program = (sys.executable, str(Path(__file__).resolve().parent))
    settings = Settings(quick=args.quick, against=against, program=program)
    results = benchmark(names, settings)
    print(benchmark_table(results))
    if not args.against and "report" in names:
        print("left out: report, which needs --against")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, results)
        print(f"written: {args.out}")


if __name__ == "__main__":
    main()
