"""Folders of runs: an untrained network with its config, as a training leaves them."""

from pathlib import Path

import torch

from plugins.config import setup_cfg
from tests.helpers.small_market import MARKET, save_weights
from tests.helpers.small_runs import CONFIG, options

STOCK = ["INPUT.SIZE_TEST", "[32,16]", "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0"]


def clip_run(folder: Path, **changes) -> Path:
    """A SADSTRM of the small run."""
    return save_run(folder, CONFIG, options(folder, MODEL__HEADS__NUM_CLASSES=6, **changes))


def stock_run(folder: Path, *more: str) -> Path:
    """fastreid's own Baseline; its config.yaml has none of this package's keys."""
    return save_run(folder, MARKET, [*STOCK, "MODEL.HEADS.NUM_CLASSES", "4", *more])


def save_run(folder: Path, config: Path, opts: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(setup_cfg(str(config), opts).dump())
    weights = save_weights(folder, config, opts)
    saved = torch.load(weights, weights_only=True)
    if "backbone.stems.1.conv1.weight" in saved["model"]:  # both stems begin alike
        stem = saved["model"]["backbone.stems.1.conv1.weight"]
        stem += stem.std() * torch.randn(stem.shape, generator=torch.Generator().manual_seed(1))
    torch.save(saved, folder / "model_final.pth")
    weights.unlink()
    return folder


def evaluated_features(cfg, name: str) -> torch.Tensor:
    """What ``train_net.py --eval-only`` compares: the features of query + gallery."""
    from fastreid.evaluation import inference_on_dataset

    from plugins.engine.trainer import build_evaluator, load_model, read_tests
    from plugins.evaluation.views import viewed

    model = load_model(cfg, cfg.MODEL.WEIGHTS)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TESTS = [name]
    loader, dataset = read_tests(cfg)[name]
    evaluator = build_evaluator(cfg, model, name, loader, dataset)
    inference_on_dataset(viewed(model, cfg), loader, evaluator)
    return evaluator.collected.features
