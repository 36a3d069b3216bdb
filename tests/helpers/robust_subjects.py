"""Four models of which everybody knows how robust they are, on rendered images."""

from pathlib import Path

import torch
import torch.nn.functional as F
from fastreid.evaluation import inference_on_dataset
from torch import nn

from plugins.config import setup_cfg
from plugins.data import build_test_loader
from plugins.robustness import RobustEvaluator
from plugins.robustness.directions import EvaluatedDirection
from plugins.robustness.levels import CORE_ATTACKS, Level
from plugins.robustness.runner import AttackRunner

TINY = Level(
    queries=24,
    subset=8,
    attacks=CORE_ATTACKS,
    steps=10,
    restarts=1,
    more_restarts=2,
    eps_multipliers=(0.5, 2.0),
    noise_samples=10,
    square_queries=30,
    seeds=2,
    hsj_queries=0,
)
HEIGHT, WIDTH, STRIPES = 32, 16, 8
# How loud the grain is; the photographs have little of it, an attacker makes much.
GRAIN = 0.02


class Undefended(nn.Module):
    """Hues of horizontal stripes, by which people are found, and grain, by which it is fooled."""

    def __init__(self):
        super().__init__()
        shape = (3 * STRIPES, 3 * HEIGHT * WIDTH)
        signs = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.grain = nn.Parameter(GRAIN * signs)

    def prepare(self, images):
        return images

    def forward(self, batch):
        images = self.prepare(batch["images"].to(self.grain.device)) / 255
        stripes = F.adaptive_avg_pool2d(images[..., WIDTH // 4 : -WIDTH // 4], (STRIPES, 1))
        hues = (stripes - stripes.mean(dim=1, keepdim=True)).flatten(1)
        grain = images - F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
        return hues + grain.flatten(1) @ self.grain.T


class Quantized(Undefended):
    """Rounds its input: the gradient is 0 everywhere, and that is all that protects it."""

    def prepare(self, images):
        return (images / 16).round() * 16


class Randomized(Undefended):
    """Adds noise to its input, another at each pass."""

    def prepare(self, images):
        return images + 8 * torch.randn_like(images)


class Constant(nn.Module):
    """One feature for all: nothing that an attack does changes it."""

    def __init__(self):
        super().__init__()
        self.feature = nn.Parameter(torch.ones(3 * STRIPES))

    def forward(self, batch):
        return self.feature + 0 * batch["images"].flatten(1).sum(dim=1, keepdim=True)


def tiny_cfg(folder: Path, *opts: str):
    size = f"[{HEIGHT},{WIDTH}]"
    fixed = {
        "MODEL.DEVICE": "cpu", "INPUT.SIZE_TEST": size, "DATASETS.TESTS": "('Market1501',)",
        "DATALOADER.NUM_WORKERS": "0", "OUTPUT_DIR": str(folder), "ATTACK.EPS": "8.0",
        "TEST.IMS_PER_BATCH": "64", "ATTACK.BATCH": "24",
    }  # fmt: skip
    return setup_cfg("", [*(word for pair in fixed.items() for word in pair), *opts])


def evaluated(cfg, model):
    loader, dataset = build_test_loader(cfg, "Market1501")
    evaluator = RobustEvaluator(cfg, dataset, model, loader.dataset, "Market1501")
    inference_on_dataset(model, loader, evaluator)
    return evaluator


def runner_of(
    model, folder: Path, *opts: str, level: Level = TINY, undefended=None
) -> AttackRunner:
    evaluator = evaluated(tiny_cfg(folder, *opts), model)
    twin = EvaluatedDirection(undefended, "Q2G") if undefended else None
    return AttackRunner(EvaluatedDirection(evaluator, "Q2G"), level, folder / "records", twin)
