"""Parts as a user writes and registers them, outside the package."""

import torch
from torch import nn

from plugins.modeling.heads import VideoHead
from plugins.modeling.losses import Loss
from plugins.modeling.self_attack import Attacker, bounded
from plugins.registry import HEADS, LOSS, SELF_ATTACK, TEMPORAL

DIM = 512  # of the ResNet-18 that the tests train


@LOSS.register()
class OwnCenterLoss(Loss):
    """Distance to a learned center of each person."""

    key = "loss_center"

    def __init__(self, cfg):
        super().__init__()
        self.centers = nn.Parameter(torch.randn(cfg.MODEL.HEADS.NUM_CLASSES, DIM))

    def forward(self, outputs, targets, modalities):
        gaps = outputs["features"] - self.centers[targets]
        return 0.01 * gaps.square().sum(dim=1).mean()


@LOSS.register()
class OwnPlainLoss:
    """No module at all, and without parameters."""

    key = "loss_plain"

    def __init__(self, cfg):
        self.scale = 0.5

    def __call__(self, outputs, targets, modalities):
        return self.scale * outputs["features"].square().mean()


@TEMPORAL.register()
class OwnTemporal(nn.Module):
    """Frames weighted by a score of their mean map."""

    def __init__(self, cfg):
        super().__init__()
        self.score = nn.Linear(DIM, 1)

    def forward(self, maps):
        features = maps.mean(dim=(3, 4))
        return (self.score(features).softmax(dim=1) * features).sum(dim=1)


@HEADS.register()
class OwnHead(VideoHead):
    """A learned scale in front of the head."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = nn.Parameter(torch.ones(DIM))

    def forward(self, features, targets=None):
        return super().forward(self.scale * features, targets)


@SELF_ATTACK.register()
class OwnAttacker(Attacker):
    """One convolution makes the perturbation."""

    def __init__(self, cfg):
        super().__init__(**self.from_config(cfg))
        self.map = nn.Conv2d(64, 64, 1)

    def forward(self, maps, modalities, losses=None):
        return bounded(self.map(maps), maps, self.eps)
