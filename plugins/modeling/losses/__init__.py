"""Losses a config can name in ``MODEL.LOSSES.NAME``."""

from plugins.modeling.losses.build import Loss, build_losses
from plugins.modeling.losses.circle import CircleLoss
from plugins.modeling.losses.cosface import Cosface
from plugins.modeling.losses.cross_entropy import CrossEntropyLoss
from plugins.modeling.losses.cross_modal_triplet import CrossModalTriplet
from plugins.modeling.losses.triplet import TripletLoss

__all__ = [
    "CircleLoss",
    "Cosface",
    "CrossEntropyLoss",
    "CrossModalTriplet",
    "Loss",
    "TripletLoss",
    "build_losses",
]
