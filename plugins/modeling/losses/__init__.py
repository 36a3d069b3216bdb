"""Losses a config can name in ``MODEL.LOSSES.NAME``."""

from plugins.modeling.losses.base import FunctionLoss, Loss
from plugins.modeling.losses.build import build_losses
from plugins.modeling.losses.modality_confusion import ModalityConfusion
from plugins.modeling.losses.modules import (
    CenterAlignment,
    CrossModalAlignment,
    CrossModalTriplet,
    FrameSeparation,
    HeteroCenterTriplet,
    KLConsistency,
    WeightedRegularizedTriplet,
)
from plugins.modeling.losses.stock import (
    CircleLoss,
    Cosface,
    CrossEntropyLoss,
    TripletLoss,
)

__all__ = [
    "CenterAlignment",
    "CircleLoss",
    "Cosface",
    "CrossEntropyLoss",
    "CrossModalAlignment",
    "CrossModalTriplet",
    "FrameSeparation",
    "FunctionLoss",
    "HeteroCenterTriplet",
    "KLConsistency",
    "Loss",
    "ModalityConfusion",
    "TripletLoss",
    "WeightedRegularizedTriplet",
    "build_losses",
]
