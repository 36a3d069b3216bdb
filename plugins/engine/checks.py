"""Check a config before any data is read, so that a wrong name or value is reported at once.

A part that is registered may have a class method ``check_config(cfg)``, which raises InputError for
what it cannot work with; it is called here, before the part is built.
"""

from collections.abc import Mapping

import torch
from fastreid.config import CfgNode
from fastreid.utils.registry import Registry
from torch import nn

from plugins.config import check_values, flatten
from plugins.data.build import (
    FASTREID_SAMPLERS,
    clip_sampling,
    share_batch,
)
from plugins.data.corruptions import check_corruption
from plugins.data.datasets.wrapped import chain
from plugins.data.frame_cache.store import require_store
from plugins.data.transforms import build_clip_transforms
from plugins.engine.hooks import check_frozen
from plugins.engine.input_kinds import check_kinds
from plugins.engine.optimizer import check_solver
from plugins.engine.steps import Step
from plugins.engine.trainer import evaluator_name
from plugins.errors import InputError, one_line
from plugins.evaluation import check_expected_rows
from plugins.modeling.dry_build import check_model
from plugins.registry import EVALUATOR, SAMPLER, STEP, lookup
from plugins.utils.own_code import described

# Models that were tried, by the settings that they were built from.
Tried = dict[tuple, nn.Module | None]
# What names a run or the weights it starts from, and decides nothing about its model.
NAMES_OF_RUN = ("OUTPUT_DIR", "SEED", "MODEL.WEIGHTS", "MODEL.BACKBONE.PRETRAIN_PATH")


def check_run(cfg: CfgNode, processes: int, tried: Tried | None = None) -> None:
    """Check the settings of a training and of the evaluations in it.

    Args:
        cfg: of the run.
        processes: that share SOLVER.IMS_PER_BATCH.
        tried: what earlier checks of this process tried; a model in it is not tried again.

    Raises:
        InputError: a part is not registered, or a value is one that a part refuses.
    """
    check_values(cfg)
    check_datasets(cfg, "NAMES", "TESTS")
    check_cache(cfg, "SIZE_TRAIN", "SIZE_TEST")
    batch = share_batch(cfg, processes)
    name = cfg.DATALOADER.SAMPLER_TRAIN
    sampler = lookup(SAMPLER, FASTREID_SAMPLERS.get(name, name), "DATALOADER.SAMPLER_TRAIN")
    check_solver(cfg)
    check_step(cfg)
    check_evaluator(cfg)
    sizes = {
        "INPUT.SIZE_TRAIN": frame_size(cfg, is_train=True),
        "INPUT.SIZE_TEST": frame_size(cfg, is_train=False),
    }
    model = try_model(cfg, sizes, batch, tried)
    check_kinds(cfg, "NAMES", "TESTS")
    if model is not None:
        check_frozen(cfg, model)
    if hasattr(sampler, "people_of_batch"):
        sampler.people_of_batch(batch, cfg.DATALOADER.NUM_INSTANCE)
    step = STEP.get(cfg.SOLVER.STEP)
    if model is not None and hasattr(step, "adversary_parameters"):
        step.adversary_parameters(model)  # raises InputError for a model without an adversary


def check_evaluation(cfg: CfgNode, tried: Tried | None = None) -> None:
    """Check the settings of an evaluation; arguments and errors as of :func:`check_run`."""
    check_values(cfg)
    check_datasets(cfg, "TESTS")
    check_cache(cfg, "SIZE_TEST")
    check_evaluator(cfg)
    try_model(cfg, {"INPUT.SIZE_TEST": frame_size(cfg, is_train=False)}, 0, tried)
    check_kinds(cfg, "TESTS")


def try_model(
    cfg: CfgNode, sizes: Mapping[str, tuple[int, int]], batch: int, tried: Tried | None
) -> nn.Module | None:
    """Return the model of ``check_model``, and keep it in ``tried``."""
    if tried is None:
        return check_model(cfg, sizes, batch)
    settings = repr([pair for pair in flatten(cfg) if pair[0] not in NAMES_OF_RUN])
    key = (settings, *sizes.items(), batch)
    if key not in tried:
        tried[key] = check_model(cfg, sizes, batch)
    return tried[key]


def check_cache(cfg: CfgNode, *keys: str) -> None:
    """Raise InputError unless DATALOADER.FRAME_CACHE has frames of the sizes that INPUT names."""
    for key in keys if cfg.DATALOADER.FRAME_CACHE else ():
        height, width = cfg.INPUT[key]
        require_store(cfg.DATALOADER.FRAME_CACHE, (height, width))


def check_datasets(cfg: CfgNode, *keys: str) -> None:
    """Raise InputError unless the keys of DATASETS name data sets, and TESTS each of them once."""
    for key in keys:
        if not cfg.DATASETS[key]:
            raise InputError(f"DATASETS.{key}: it names no data set; expected one or more")
        check_dataset_names(cfg, key)
    if cfg.TEST.PRECISE_BN.ENABLED and "NAMES" in keys:
        chain(cfg.TEST.PRECISE_BN.DATASET, cfg, "TEST.PRECISE_BN.DATASET")
    for name in cfg.DATASETS.TESTS:
        if cfg.DATASETS.TESTS.count(name) > 1:
            raise InputError(f"DATASETS.TESTS: {name} more than once; expected each data set once")


def check_dataset_names(cfg: CfgNode, *keys: str) -> None:
    """Raise InputError for an unknown data set in the keys of DATASETS, or in a set named there.

    Also where sets are inside each other.
    """
    for key in keys:
        for name in cfg.DATASETS[key]:
            chain(name, cfg, f"DATASETS.{key}")


def check_evaluator(cfg: CfgNode) -> None:
    """Raise InputError for an unknown evaluator, or a wrong value of TEST or INPUT.CLIP."""
    for check in (clip_sampling, check_corruption):
        check(cfg)
    check_expected_rows(cfg.TEST.EXPECTED_RESULTS, cfg.DATASETS.TESTS)
    check_part(EVALUATOR, evaluator_name(cfg), "TEST.EVALUATOR", cfg)


def check_step(cfg: CfgNode) -> None:
    """Raise InputError for an unknown step, one that is no ``Step``, or what the step refuses."""
    step = lookup(STEP, cfg.SOLVER.STEP, "SOLVER.STEP")
    if not (isinstance(step, type) and issubclass(step, Step)):
        raise InputError(
            f"SOLVER.STEP: {described(cfg.SOLVER.STEP, step)} is no subclass of Step; expected "
            "one, such as of SimpleStep or AdversarialStep"
        )
    step.check_config(cfg)


def check_part(registry: Registry, name: str, key: str, cfg: CfgNode) -> None:
    """Look up a part and let it check the config."""
    check = getattr(lookup(registry, name, key), "check_config", None)
    if check is not None:
        check(cfg)


def frame_size(cfg: CfgNode, is_train: bool) -> tuple[int, int]:
    """Measure height and width of the frames that INPUT gives the network.

    Raises:
        InputError: INPUT has a value that the transforms refuse.
    """
    transform = build_clip_transforms(cfg, is_train)
    key = "SIZE_TRAIN" if is_train else "SIZE_TEST"
    try:
        with torch.random.fork_rng(devices=[]):
            frame = torch.zeros(3, *cfg.INPUT[key], dtype=torch.uint8)
            height, width = transform([frame]).shape[-2:]
            return height, width
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"INPUT.{key}: {list(cfg.INPUT[key])}: {one_line(error)}") from error
