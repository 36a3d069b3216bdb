"""Take one training step of a small model on random clips, to see whether a machine can train."""

from typing import Any

import torch
from fastreid.config import CfgNode

from plugins.config import setup_cfg
from plugins.engine.optimizer import build_optimizer
from plugins.engine.trainer import Trainer


def moved_weights(device: str) -> tuple[int, int]:
    """Take one step of a small visible-infrared model on random clips.

    Returns:
        (number of parameters that changed and are finite, number of parameters that the step
        should change).
    """
    cfg = small_cfg(device)
    random = torch.random.get_rng_state()
    try:
        torch.manual_seed(0)
        model = Trainer.build_model(cfg).train()
        optimizer = build_optimizer(cfg, model)
        people = torch.arange(4).repeat(2)
        batch = {
            "images": torch.rand(8, 2, 3, 64, 32) * 255,
            "targets": people,
            "camids": people,
            "modalities": torch.arange(8) // 4,
            "img_paths": [""] * 8,
        }
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        before = [parameter.detach().clone() for parameter in trained]
        sum(model(batch).values()).backward()
        expected = [parameter.grad is not None for parameter in trained]
        optimizer.step()
    finally:
        torch.random.set_rng_state(random)
    moved = [
        bool(torch.isfinite(new).all()) and not torch.equal(old, new)
        for old, new, expects in zip(before, trained, expected, strict=True)
        if expects
    ]
    return sum(moved), len(moved)


def small_cfg(device: str) -> CfgNode:
    """Describe a ResNet-18 with two stems and the losses of the video models."""
    settings: dict[str, Any] = {
        "MODEL.DEVICE": device,
        "MODEL.META_ARCHITECTURE": "VVIBaseline",
        "MODEL.BACKBONE.NAME": "build_two_stream_backbone",
        "MODEL.BACKBONE.DEPTH": "18x",
        "MODEL.BACKBONE.FEAT_DIM": 512,
        "MODEL.BACKBONE.PRETRAIN": False,
        "MODEL.HEADS.NAME": "VideoHead",
        "MODEL.HEADS.NUM_CLASSES": 4,
        "MODEL.HEADS.WITH_BNNECK": True,
        "MODEL.LOSSES.NAME": ["CrossEntropyLoss", "TripletLoss"],
        "MODEL.TEMPORAL.NAME": "TemporalMean",
        "SOLVER.BASE_LR": 0.01,
    }
    return setup_cfg(opts=[part for pair in settings.items() for part in pair])
