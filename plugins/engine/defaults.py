"""Start a run: its config, log and seeds; train and evaluate, or evaluate alone."""

import argparse
import contextlib
import logging
import os
import random
from pathlib import Path
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from torch import nn

from plugins.config import import_plugins, setup_cfg
from plugins.data import check_root
from plugins.engine.checkpoint import check_schedule, newest_checkpoint
from plugins.engine.checks import check_evaluation, check_run
from plugins.engine.evaluation_settings import (
    SETTINGS,
    about_weights,
    evaluation_settings,
    keep_other_evaluation,
)
from plugins.engine.launch import world_size
from plugins.engine.logs import describe_model, introduce, start_logs
from plugins.engine.output_folder import (
    EVALUATION,
    EVALUATION_PICTURES,
    EVALUATION_QUERIES,
    QUERIES,
    RESULTS,
    remove,
    require_apart,
    require_regular,
    require_unused,
    run_files,
    tell_appended,
)
from plugins.engine.trainer import Trainer, load_model
from plugins.errors import InputError, user_errors
from plugins.evaluation import Evaluation, verify_expected, write_queries
from plugins.modeling.backbones.pretrained import weights_file
from plugins.utils.io import full_disk_named, make_folder, require_file, write_json
from plugins.utils.locks import hold

logger = logging.getLogger(__name__)

SCHEMA, VERSION = "fastreid-plugins/results", 1  # of results.json and evaluation.json


def read_cfg(args: argparse.Namespace) -> CfgNode:
    """Read the run's config, frozen, and check it before any process starts.

    Raises:
        InputError: an unknown key or device; a part that is not registered, or that refuses its
            values; no process; another schedule than that of the run to resume; or an OUTPUT_DIR
            that takes no file or holds another training.
    """
    if not args.config_file:
        stray = (
            f"{args.opts[0]}: " if args.opts and str(args.opts[0]).endswith(("yml", "yaml")) else ""
        )
        raise InputError(f"{stray}expected --config-file FILE, such as VVI/synthetic/sadstrm.yml")
    if args.overwrite and (args.eval_only or args.resume):
        other = "--eval-only" if args.eval_only else "--resume"
        raise InputError(f"--overwrite: with {other}; expected it with a new training alone")
    if isinstance(args.resume, str):
        require_file(args.resume, "--resume")
    cfg = setup_cfg(args.config_file, args.opts, args.plugins)
    take_available_device(cfg)
    for option, number in (("gpus", args.num_gpus), ("machines", args.num_machines)):
        if number < 1:
            raise InputError(
                f"--num-{option} {number}: expected 1 or more; MODEL.DEVICE cpu needs no GPU"
            )
    size = world_size(args.num_gpus, args.num_machines)
    if size > 1 and cfg.MODEL.DEVICE.startswith("cuda"):
        cfg.MODEL.DEVICE = "cuda"  # each process has its own
    if cfg.SEED < 0:
        cfg.SEED = random.SystemRandom().randrange(2**31)
    if args.eval_only:
        cfg.MODEL.BACKBONE.PRETRAIN = False
        cfg.MODEL.SELF_ATTACK.CAM_WEIGHT = 0.0  # no attacker, so no cameras to count
        check_evaluation(cfg)
        if not cfg.MODEL.WEIGHTS:
            raise InputError(
                "--eval-only needs weights: add MODEL.WEIGHTS logs/run/model_final.pth"
            )
    else:
        if cfg.MODEL.BACKBONE.PRETRAIN and cfg.MODEL.BACKBONE.PRETRAIN_PATH:
            weights_file(cfg)
        check_run(cfg, size)
    if cfg.MODEL.WEIGHTS and (args.eval_only or not goes_on(args, cfg)):
        require_file(cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS")
    if args.resume and not args.eval_only:
        newest, _ = newest_checkpoint(Path(cfg.OUTPUT_DIR))
        if path := args.resume if isinstance(args.resume, str) else newest:
            check_schedule(path, cfg)
    if not cfg.OUTPUT_DIR.strip():
        raise InputError("OUTPUT_DIR: it is empty; expected a folder, such as logs/run")
    check_root()
    check_output(cfg, args)
    make_folder(cfg.OUTPUT_DIR, "OUTPUT_DIR")
    cfg.freeze()
    return cfg


def goes_on(args: argparse.Namespace, cfg: CfgNode) -> bool:
    """Tell whether ``--resume`` names, or OUTPUT_DIR holds, a checkpoint to go on from."""
    newest, _ = newest_checkpoint(Path(cfg.OUTPUT_DIR))
    return isinstance(args.resume, str) or bool(args.resume and newest)


def check_output(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Raise InputError if a run cannot write there, or would replace what another one saved."""
    folder = Path(cfg.OUTPUT_DIR)
    require_regular(folder)
    if args.overwrite:
        require_apart(folder, "MODEL.WEIGHTS", cfg.MODEL.WEIGHTS)
        require_apart(folder, "MODEL.BACKBONE.PRETRAIN_PATH", cfg.MODEL.BACKBONE.PRETRAIN_PATH)
    elif starts_anew(cfg, args):
        require_unused(folder)


def starts_anew(cfg: CfgNode, args: argparse.Namespace) -> bool:
    """Tell whether a run writes into OUTPUT_DIR and does not go on with the training there."""
    if args.eval_only:
        return False
    if args.resume is True:
        return not goes_on(args, cfg)
    return not (args.resume and same_folder(Path(args.resume).parent, Path(cfg.OUTPUT_DIR)))


def take_available_device(cfg: CfgNode) -> None:
    """Set MODEL.DEVICE to the CPU where it names CUDA and there is no such device."""
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"


def setup_run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Make the output folder, start the logs, seed everything.

    A seed that was drawn is the main process's on all ranks; torchrun's draw one each.
    """
    cfg.defrost()
    cfg.SEED = comm.all_gather(cfg.SEED)[0]
    cfg.freeze()
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    start_logs(cfg.OUTPUT_DIR, comm.get_rank())
    introduce(cfg, comm.get_rank(), comm.get_world_size())
    seed_all_rng(cfg.SEED + comm.get_rank())
    device = torch.device(cfg.MODEL.DEVICE)
    if device.index is not None:
        torch.cuda.set_device(device)  # whose random state a checkpoint keeps
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not args.eval_only


def run_rank(cfg: CfgNode, args: argparse.Namespace, kept: str) -> None:
    """Run in a process that may be new: it imports the user's parts and reports its own errors.

    A spawned process cannot raise into the one that started it.

    Args:
        cfg: of the run; its PLUGINS were asked for in the first process.
        args: of the command line.
        kept: what is kept after a signal, and how to go on.
    """
    user_errors(kept=kept)(_run_with_plugins)(cfg, args)


def _run_with_plugins(cfg: CfgNode, args: argparse.Namespace) -> None:
    import_plugins(cfg.PLUGINS)
    run(cfg, args)


def run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Train and evaluate, or with ``--eval-only`` evaluate; then check TEST.EXPECTED_RESULTS.

    Raises:
        InputError: another process trains, or evaluates, in OUTPUT_DIR.
        SystemExit: 1 if a result is not as expected.
    """
    with contextlib.ExitStack() as held:
        if comm.is_main_process():
            # An evaluation may look at the checkpoints of a training that goes on.
            task = "evaluation" if args.eval_only else "training"
            held.enter_context(hold(cfg.OUTPUT_DIR, "OUTPUT_DIR", task))
            check_output(cfg, args)  # another process may have trained there since it was read
        with full_disk_named(cfg.OUTPUT_DIR):
            _run(cfg, args)


def _run(cfg: CfgNode, args: argparse.Namespace) -> None:
    output = Path(cfg.OUTPUT_DIR)
    older = run_files(output) if args.overwrite and comm.is_main_process() else []
    setup_run(cfg, args)
    results: dict | None  # on the main process alone
    if args.eval_only:
        if cfg.TEST.PRECISE_BN.ENABLED:
            logger.warning(
                "TEST.PRECISE_BN.ENABLED: True; --eval-only evaluates the statistics that "
                "MODEL.WEIGHTS holds and computes no others"
            )
        model = load_model(cfg, cfg.MODEL.WEIGHTS)
        tell_model(model, args)
        tests = Trainer.build_tests(cfg, model)
        if comm.is_main_process():
            keep_other_evaluation(output, about_run(cfg, eval_only=True))
        results, queries = Trainer.test_queries(cfg, model, tests, EVALUATION_PICTURES)
    else:
        if comm.is_main_process():
            tell_where_it_goes_on(cfg.OUTPUT_DIR, args)
            if not args.overwrite:
                tell_appended(output)
        trainer = Trainer(cfg)
        trainer.resumed_by = getattr(args, "resumed_by", trainer.resumed_by)
        tell_model(trainer.model, args)
        remove(older, output)  # only now: a mistake in the new run costs nothing of the older one
        trainer.resume_or_load(args.resume)
        results = trainer.train()
        queries = trainer.queries
    if comm.is_main_process():
        if not args.eval_only:
            logger.info("Checkpoints, log and metrics: %s", os.path.abspath(cfg.OUTPUT_DIR))
        assert results is not None
        if len(cfg.DATASETS.TESTS) == 1:
            results = {cfg.DATASETS.TESTS[0]: results}
        saved = save_results(cfg, results, queries, args.eval_only)
        logger.info("Scores: %s; what each query found: %s", *saved)
        misses = verify_expected(cfg.TEST.EXPECTED_RESULTS, results)
        for miss in misses:
            logger.error("TEST.EXPECTED_RESULTS: %s", miss)
        if misses:
            raise SystemExit(1)
        if cfg.TEST.EXPECTED_RESULTS:
            logger.info("TEST.EXPECTED_RESULTS: all met")


def tell_model(model: nn.Module, args: argparse.Namespace) -> None:
    """Log the size of the network, with --print-model also its layers."""
    logger.info("Model: %s", describe_model(model))
    if args.print_model:
        logger.info("Layers:\n%s", model)


def tell_where_it_goes_on(output: str, args: argparse.Namespace) -> None:
    """Warn where ``--resume`` finds nothing to go on from, or goes on in another folder.

    A run's folder that was moved holds a config.yaml that names the old place.
    """
    if args.resume is True and not newest_checkpoint(Path(output))[0]:
        logger.warning(
            "--resume: OUTPUT_DIR %s holds no checkpoint, so the training starts at epoch 0; "
            "--resume FILE goes on from a checkpoint that lies elsewhere%s",
            output,
            f", such as {near}" if (near := newest_beside(args.config_file)) else "",
        )
    if isinstance(args.resume, str) and not same_folder(Path(args.resume).parent, Path(output)):
        logger.warning(
            "--resume %s: what follows is written to OUTPUT_DIR %s; to go on in the folder of that "
            "checkpoint, add OUTPUT_DIR %s",
            args.resume,
            output,
            Path(args.resume).parent,
        )


def newest_beside(config_file: str) -> str:
    """Return the newest checkpoint in the folder of a config; empty without one."""
    return newest_checkpoint(Path(config_file).parent)[0]


def same_folder(first: Path, second: Path) -> bool:
    """Tell whether two paths lead to the same folder."""
    return first.resolve() == second.resolve()


def about_run(cfg: CfgNode, eval_only: bool) -> dict[str, Any]:
    """Say what was evaluated: "epochs", or "weights" and their "weights_digest"; and "settings"."""
    of_model = about_weights(cfg.MODEL.WEIGHTS) if eval_only else {"epochs": cfg.SOLVER.MAX_EPOCH}
    return {**of_model, SETTINGS: evaluation_settings(cfg)}


def save_results(
    cfg: CfgNode, results: dict, queries: Evaluation, eval_only: bool
) -> tuple[Path, Path]:
    """Write SCHEMA, VERSION, :func:`about_run` and ``"results"`` as JSON.

    The results are {data set: {row: {metric: percent}}}. With ``eval_only`` the document has a file
    of its own, as the folder may be that of the training. A file beside it, written first, holds
    what each query found.

    Returns:
        The two files.
    """
    about = about_run(cfg, eval_only)
    name, queries_name = (EVALUATION, EVALUATION_QUERIES) if eval_only else (RESULTS, QUERIES)
    labeled = Evaluation(queries.rows, {**queries.run, **about})
    write_queries(Path(cfg.OUTPUT_DIR, queries_name), labeled)
    document = {"schema": SCHEMA, "version": VERSION, **about, "results": results}
    write_json(Path(cfg.OUTPUT_DIR, name), document)
    return Path(cfg.OUTPUT_DIR, name), Path(cfg.OUTPUT_DIR, queries_name)
