"""Losses a config can name in ``MODEL.LOSSES.NAME``."""

from plugins.modeling.losses.base import FunctionLoss, Loss
from plugins.modeling.losses.build import build_losses
from plugins.modeling.losses.center_alignment import CenterAlignment
from plugins.modeling.losses.circle import CircleLoss
from plugins.modeling.losses.cosface import Cosface
from plugins.modeling.losses.cross_entropy import CrossEntropyLoss
from plugins.modeling.losses.cross_modal_alignment import CrossModalAlignment
from plugins.modeling.losses.cross_modal_triplet import CrossModalTriplet
from plugins.modeling.losses.frame_separation import FrameSeparation
from plugins.modeling.losses.hetero_center_triplet import HeteroCenterTriplet
from plugins.modeling.losses.kl_consistency import KLConsistency
from plugins.modeling.losses.modality_confusion import ModalityConfusion
from plugins.modeling.losses.triplet import TripletLoss
from plugins.modeling.losses.weighted_regularized_triplet import WeightedRegularizedTriplet

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
