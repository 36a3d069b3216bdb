"""Parts and keys as a user writes them in a file beside a config, for every command."""

import torch
from torch import nn

from plugins.config import Key, add_keys
from plugins.modeling.losses import Loss
from plugins.registry import ATTACK, LOSS, TEMPORAL
from plugins.robustness.checks import at_least, check


def add_config(cfg):
    add_keys(
        cfg,
        {
            "MODEL.LOSSES.USERS_CENTER.WEIGHT": Key(
                0.01, "Weight of the distance to the centers.", least=0
            )
        },
    )


@LOSS.register()
class UsersCenterLoss(Loss):
    """Squared distance to a learned center of each person."""

    key = "loss_users_center"

    def __init__(self, cfg):
        super().__init__()
        self.weight = cfg.MODEL.LOSSES.USERS_CENTER.WEIGHT
        shape = cfg.MODEL.HEADS.NUM_CLASSES, cfg.MODEL.BACKBONE.FEAT_DIM
        self.centers = nn.Parameter(torch.zeros(shape))

    def forward(self, outputs, targets, modalities):
        gaps = outputs["features"] - self.centers[targets]
        return self.weight * gaps.square().sum(dim=1).mean()


@TEMPORAL.register()
class UsersTemporal(nn.Module):
    """Frames weighted by a score of their mean map."""

    def __init__(self, cfg):
        super().__init__()
        self.score = nn.Linear(cfg.MODEL.BACKBONE.FEAT_DIM, 1)

    def forward(self, maps):
        features = maps.mean(dim=(3, 4))
        return (self.score(features).softmax(dim=1) * features).sum(dim=1)


def away_from_the_person(features, guides):
    """Mean distance 1 - cos to the gallery items of the same person."""
    distances = 1 - nn.functional.normalize(features) @ nn.functional.normalize(guides.gallery).T
    positives = guides.positives.to(distances)
    return (distances * positives).sum(dim=1) / positives.sum(dim=1).clamp(min=1)


@ATTACK.register()
class UsersAttack(ATTACK.get("FNA")):
    """As FNA, with an objective of one's own."""

    objective = staticmethod(away_from_the_person)


@check("enough_queries", "A", "Are there queries to attack?")
def enough_queries(runner):
    number = len(runner.subset)
    return at_least(number, 1, 1, "queries", f"The checks attack {number} queries.")
