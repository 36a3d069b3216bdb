"""The tasks of balancing for a config: plan, train, measure, generate, inspect.

All files are in the folder DATASETS.BALANCE.DIR. Only ``train``, ``measure`` and ``generate`` need
diffusers.
"""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from fastreid.config import CfgNode
from torch import Tensor

from plugins.balancing.classifier import train_camera_classifier
from plugins.balancing.filling import fill_slots
from plugins.balancing.filters import CandidateFilter, margin_quantile, mean_features
from plugins.balancing.photographs import (
    Photograph,
    count_pairs,
    list_photographs,
    read_photographs,
)
from plugins.balancing.pictures import draw_charts, draw_sheet
from plugins.balancing.planner import Slot, plan_slots
from plugins.balancing.precision import (
    PRECISION,
    Judge,
    Precision,
    choose_pairs,
    measure_precision,
    precision_document,
    train_judge,
)
from plugins.balancing.tables import (
    MANIFEST,
    PLAN,
    Outcome,
    read_table,
    unfinished,
    write_table,
)
from plugins.config import setup_cfg
from plugins.data import build_dataset, datasets_root
from plugins.data.frames import resize_frame
from plugins.engine.trainer import load_model
from plugins.errors import InputError
from plugins.utils.commands import command_line
from plugins.utils.io import file_digest, write_json

if TYPE_CHECKING:  # it needs diffusers
    from plugins.balancing.generator import Generator

logger = logging.getLogger(__name__)

SHEET, CHARTS = "sheet.png", "charts.png"
TEACHER_BATCH = 64  # images
MEASURED_PAIRS, MEASURED_IMAGES = 100, 4  # pairs of a kind, images of a pair


def plan(cfg: CfgNode) -> tuple[Path, list[Slot]]:
    """Write the plan; return its file and its slots."""
    keys = cfg.DATASETS.BALANCE
    slots = plan_slots(count_pairs(training_photographs(cfg)), keys.DELTA1, keys.DELTA2)
    folder = balance_folder(cfg)
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / PLAN, Slot, slots)
    return folder / PLAN, slots


def train(cfg: CfgNode) -> Path:
    """Train the generator, or resume its training; return its checkpoint."""
    require_diffusers()
    from plugins.balancing.training import CHECKPOINT, GeneratorTraining, TrainingSettings

    settings = TrainingSettings.from_config(cfg)
    training = GeneratorTraining(
        training_photographs(cfg), settings, cfg.MODEL.DEVICE, cfg.INPUT.MAX_PIXELS
    )
    keys = cfg.DATASETS.BALANCE.GENERATOR
    training.run(balance_folder(cfg), keys.STEPS, keys.CHECKPOINT_PERIOD)
    return balance_folder(cfg) / CHECKPOINT


def generate(cfg: CfgNode) -> tuple[Path, list[Outcome]]:
    """Fill the slots of the plan, or resume filling; return the manifest and its rows."""
    require_teacher(cfg)
    folder, seed = balance_folder(cfg), max(cfg.SEED, 0)
    photographs, size = training_photographs(cfg), cfg.DATASETS.BALANCE.GENERATOR.SIZE
    outcomes = fill_slots(
        read_plan(cfg, photographs),
        build_generator(cfg, photographs),
        lambda: build_filter(
            cfg, photographs, read_photographs(photographs, size, cfg.INPUT.MAX_PIXELS)
        ),
        folder,
        candidates=cfg.DATASETS.BALANCE.CANDIDATES,
        seed=seed,
        made_with=what_makes(cfg),
    )
    return folder / MANIFEST, outcomes


def measure(cfg: CfgNode) -> tuple[Judge, list[Precision]]:
    """Generate and judge images of seen and unseen pairs; write PRECISION."""
    require_teacher(cfg)
    photographs, size = training_photographs(cfg), cfg.DATASETS.BALANCE.GENERATOR.SIZE
    generator = build_generator(cfg, photographs)
    images = read_photographs(photographs, size, cfg.INPUT.MAX_PIXELS)
    judge = train_judge(images, photographs, max(cfg.SEED, 0), cfg.MODEL.DEVICE)
    candidate_filter = build_filter(cfg, photographs, images)
    pairs = choose_pairs(photographs, MEASURED_PAIRS)
    rows = measure_precision(generator, judge, candidate_filter, pairs, MEASURED_IMAGES)
    write_json(balance_folder(cfg) / PRECISION, precision_document(judge, rows))
    return judge, rows


def inspect(cfg: CfgNode) -> tuple[list[Path], list[Outcome]]:
    """Draw the sheet and the charts of a manifest; return the pictures and its rows.

    Warns if the manifest lacks slots of the plan.
    """
    folder = balance_folder(cfg)
    outcomes = read_table(folder / MANIFEST, Outcome)
    if not outcomes:
        raise InputError(f"{folder / MANIFEST}: it lists no slot: the plan is empty")
    photographs = training_photographs(cfg)
    if (folder / PLAN).is_file():
        read_plan(cfg, photographs)
    if missing := unfinished(folder, outcomes):
        logger.warning(missing)
    draw_sheet(folder / SHEET, photographs, outcomes, folder)
    draw_charts(folder / CHARTS, photographs, outcomes)
    return [folder / SHEET, folder / CHARTS], outcomes


def balance_folder(cfg: CfgNode) -> Path:
    """Return DATASETS.BALANCE.DIR, inside the folder of all data sets unless it is absolute."""
    return Path(datasets_root(), cfg.DATASETS.BALANCE.DIR)


def training_photographs(cfg: CfgNode) -> list[Photograph]:
    """List the real images to balance."""
    name = cfg.DATASETS.BALANCE.NAME
    return list_photographs(build_dataset(name, "DATASETS.BALANCE.NAME", cfg=cfg).train, name)


def read_plan(cfg: CfgNode, photographs: Sequence[Photograph]) -> list[Slot]:
    """Read the slots of the folder's plan.

    Raises:
        InputError: there is no plan, or it differs from the plan of the config for these images.
    """
    keys, path = cfg.DATASETS.BALANCE, balance_folder(cfg) / PLAN
    slots = read_table(path, Slot)
    if slots != plan_slots(count_pairs(photographs), keys.DELTA1, keys.DELTA2):
        raise InputError(
            f"{path}: not the plan of DATASETS.BALANCE.NAME {keys.NAME} with DELTA1 {keys.DELTA1} "
            f"and DELTA2 {keys.DELTA2}; {command_line('balance_data')} plan writes it"
        )
    return slots


def build_generator(cfg: CfgNode, photographs: Sequence[Photograph]) -> "Generator":
    """Build the folder's generator.

    Raises:
        InputError: there is none, or it was trained with other images.
    """
    require_diffusers()
    from plugins.balancing.generator import EDMGenerator
    from plugins.balancing.training import (
        CHECKPOINT,
        read_generator,
        require_same_training,
        training_set,
    )

    path = balance_folder(cfg) / CHECKPOINT
    require_same_training(read_generator(path), training_set(photographs), path)
    keys = cfg.DATASETS.BALANCE.GENERATOR
    return EDMGenerator(
        path,
        cfg.MODEL.DEVICE,
        seed=max(cfg.SEED, 0),
        scheduler=keys.SCHEDULER,
        steps=keys.SAMPLING_STEPS,
        guidance=keys.GUIDANCE,
    )


def what_makes(cfg: CfgNode) -> dict[str, object]:
    """Return all that determines the images of a plan: digests of two networks, and settings."""
    from plugins.balancing.training import CHECKPOINT

    keys = cfg.DATASETS.BALANCE
    return {
        "generator": file_digest(balance_folder(cfg) / CHECKPOINT),
        "teacher": file_digest(Path(keys.TEACHER.WEIGHTS)),
        **{key: keys.GENERATOR[key] for key in ("SCHEDULER", "SAMPLING_STEPS", "GUIDANCE")},
        **{key: keys[key] for key in ("TOP", "CLEAR")},
    }


def build_filter(
    cfg: CfgNode, photographs: Sequence[Photograph], images: Tensor
) -> CandidateFilter:
    """Build the filter from the config's teacher and a camera classifier trained on ``images``."""
    seed = max(cfg.SEED, 0)
    people = sorted({photograph.person for photograph in photographs})
    cameras = sorted({photograph.camera for photograph in photographs})
    features_of = load_teacher(cfg)
    features, owners = features_of(images), [photograph.person for photograph in photographs]
    prototypes = mean_features(features, owners, people)
    keys = cfg.DATASETS.BALANCE
    least_margin = margin_quantile(features, owners, prototypes, people, keys.CLEAR)
    pairs = [(photograph.person, photograph.camera) for photograph in photographs]
    classifier, accuracy = train_camera_classifier(images, pairs, cameras, seed, cfg.MODEL.DEVICE)
    logger.info(
        "Camera classifier: %.1f %% right on real images of unseen pairs",
        100 * accuracy,
    )
    return CandidateFilter(
        features_of,
        prototypes,
        people,
        classifier.probabilities,
        cameras,
        keys.TOP,
        least_margin,
    )


def load_teacher(cfg: CfgNode) -> Callable[[Tensor], Tensor]:
    """Load the clean re-ID model DATASETS.BALANCE.TEACHER.

    Returns:
        (N, 3, h, w) uint8 to features (N, D) on the CPU.

    Raises:
        InputError: the teacher is not named, or its file is missing.
    """
    require_teacher(cfg)
    keys = cfg.DATASETS.BALANCE.TEACHER
    teacher_cfg = setup_cfg(keys.CONFIG_FILE, ["MODEL.DEVICE", cfg.MODEL.DEVICE])
    teacher_cfg.MODEL.BACKBONE.PRETRAIN = False
    model = load_model(teacher_cfg, keys.WEIGHTS).eval()

    @torch.no_grad()
    def features_of(images: Tensor) -> Tensor:
        parts = []
        for part in images.split(TEACHER_BATCH):
            resized = resize_frame(part, teacher_cfg.INPUT.SIZE_TEST).float().to(cfg.MODEL.DEVICE)
            zeros = torch.zeros(len(part), dtype=torch.int64, device=resized.device)
            batch = {"images": resized, "targets": zeros, "camids": zeros, "modalities": zeros}
            parts.append(model(batch).cpu())
        return torch.cat(parts)

    return features_of


def require_teacher(cfg: CfgNode) -> None:
    """Raise InputError unless the config names the teacher."""
    keys = cfg.DATASETS.BALANCE.TEACHER
    if not keys.CONFIG_FILE or not keys.WEIGHTS:
        raise InputError(
            "DATASETS.BALANCE.TEACHER: CONFIG_FILE and WEIGHTS are needed, such as "
            "logs/run/config.yaml and logs/run/model_best.pth"
        )


def require_diffusers() -> None:
    """Raise InputError unless diffusers is installed."""
    if importlib.util.find_spec("diffusers") is None:
        raise InputError("the generator needs diffusers: pip install diffusers")
