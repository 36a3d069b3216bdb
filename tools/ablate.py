"""Run an ablation: every row of a YAML file with every seed, recorded as each run ends.

python tools/ablate.py projects/sadstrm/grid.yml

It runs what is not recorded yet and goes on with what was interrupted; --dry-run says what that is,
--table rewrites the table. Results: results/ablation.json and ablation.md beside the file, and what
each query found in ablation_queries; logs: logs/ablation. To run one again, delete its folder there
and its line in the JSON; to run all again beside what is recorded, give them another name, as in
--name mine.

From what each query found come results/differences.json and differences.md: how much every row
differs from the first, with 95 % intervals over people and seeds. What the file can say stands in
the head of plugins/experiments/reading.py.
"""

import argparse
import functools
import logging
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import add_plugins, command, new_parser, parse

if TYPE_CHECKING:
    from plugins.experiments import Ablation
    from plugins.experiments.processes import Executor

TRAIN_NET = Path(__file__).resolve().with_name("train_net.py")
LOGS = Path("logs/ablation")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line; options that choose runs default to all."""
    parser = new_parser(__doc__, failed="a run failed; its log says why")
    parser.add_argument("file", type=Path, help="such as projects/sadstrm/grid.yml")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: those of the file")
    parser.add_argument("--rows", nargs="+", help="names of rows; default: all")
    parser.add_argument("--name", help="name of logs and results; default: the file's")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads-per-job", type=int, default=1, help="OMP threads of a run")
    parser.add_argument(
        "--executor",
        choices=("local", "slurm"),
        default="local",
        help="where runs go: processes of this machine, or jobs of its Slurm cluster",
    )
    parser.add_argument(
        "--slurm",
        nargs="+",
        default=[],
        metavar="OPTION=VALUE",
        help="options of sbatch for each job, such as partition=gpu gres=gpu:1 time=12:00:00",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would run")
    parser.add_argument("--table", action="store_true", help="only rewrite table and differences")
    add_plugins(parser)
    return parse(parser)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise InputError for a number or a name that no ablation can have."""
    from plugins.errors import InputError

    for name in ("jobs", "threads_per_job"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: below 1")
    if arguments.name is not None and not arguments.name.isidentifier():
        raise InputError(f"--name {arguments.name}: expected letters, digits and '_'")
    if arguments.slurm and arguments.executor != "slurm":
        raise InputError("--slurm: given without --executor slurm")
    for word in arguments.slurm:
        if not re.fullmatch(r"[a-z][a-z-]*=.+", word):
            raise InputError(f"--slurm {word}: expected OPTION=VALUE, such as partition=gpu")
    for seed in arguments.seeds or []:
        if seed < 0:
            raise InputError(f"--seeds {seed}: below 0")


@command(
    parse_arguments,
    kept="what has ended is recorded, the rest goes on where it was: give the same command again",
)
def main(arguments: argparse.Namespace) -> int:
    """Plan, run, report; exit status 1 if a run failed, 128 + signal if stopped by one."""
    from plugins.errors import require_output
    from plugins.experiments import (
        execute,
        plan_runs,
        read_ablation,
        read_results,
        record_result,
        split_stale,
        write_table,
    )
    from plugins.experiments.datasets import prepare

    check_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    ablation = read_ablation(arguments.file, arguments.name, arguments.plugins)
    current, stale = split_stale(ablation, read_results(ablation.results))
    for name, why in stale.items():
        print(f"{name}: the recorded result is stale: {why}")
    if arguments.table:
        report(ablation)
        return 0

    recorded = {(result["row"], result["seed"]) for result in current}
    runs = plan_runs(ablation, ablation.choose(arguments.rows), arguments.seeds, LOGS)
    missing = [run for run in runs if (run.row.name, run.seed) not in recorded]
    print(f"{len(runs)} runs, {len(runs) - len(missing)} recorded already in {ablation.results}")
    if not missing:
        print("nothing to run; --name NAME records runs of your own")
    if arguments.dry_run:
        for run in missing:
            print(f"{run}: {run.state()}")
            for command in run.commands(TRAIN_NET):
                print(f"    {shlex.join(command)}")
        return 0

    executor = choose_executor(arguments)
    require_output(f"{arguments.file}: results", ablation.results, ".json")
    require_output("logs", LOGS)
    datasets = (each for run in missing for each in run.ablation.datasets())
    prepare(datasets, os.cpu_count() or 1)
    failures, stopped_by = execute(
        missing,
        TRAIN_NET,
        arguments.jobs,
        arguments.threads_per_job,
        functools.partial(record_result, ablation),
        executor,
    )
    if stopped_by:
        print(f"table: {write_table(ablation)}")
        print("stopped; the same command goes on", file=sys.stderr)
        return 128 + stopped_by
    report(ablation)
    return 1 if failures else 0


def choose_executor(arguments: argparse.Namespace) -> "Executor":
    """Return what starts the runs; raise InputError if there is no such cluster here."""
    from plugins.experiments.processes import LocalExecutor
    from plugins.experiments.slurm import SlurmExecutor

    if arguments.executor == "local":
        return LocalExecutor()
    options = dict(word.split("=", 1) for word in arguments.slurm)
    return SlurmExecutor({"cpus-per-task": str(arguments.threads_per_job), **options})


def report(ablation: "Ablation") -> None:
    """Write the table and the differences, and print the latter."""
    from plugins.experiments import differences_table, write_differences, write_table

    print(f"table: {write_table(ablation)}")
    if differences := write_differences(ablation):
        print(f"\n{differences_table(differences)}")
    else:
        print("no differences: of fewer than two rows is recorded what each query found")


if __name__ == "__main__":
    sys.exit(main())
