"""Figures about the progress of training; none of them is trained on."""

import torch
import torch.nn.functional as F
from fastreid.utils import events
from torch import Tensor

from plugins.modeling.losses.functional import pairwise_distances


def log_scalar(name: str, value: Tensor) -> None:
    """Put a scalar into fastreid's event storage, if a trainer has opened one."""
    if events._CURRENT_STORAGE_STACK:
        events.get_event_storage().put_scalar(name, value.detach())


@torch.no_grad()
def accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Share of clips whose person (B,) has the largest logit of (B, classes), a scalar."""
    return (logits.argmax(dim=1) == targets).float().mean()


@torch.no_grad()
def mean_distances(features: Tensor, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
    """Measure distances of a person's clips, within and across the modalities, and of people.

    Args:
        features: (B, D); made unit-length here, so that distances are within 0 and 2.
        targets: (B,) person labels.
        modalities: (B,) 0 visible, 1 infrared.

    Returns:
        Mean Euclidean distance by the kind of pair: "visible", "infrared" (different clips of the
        same person in that modality), "cross" (of the same person, one clip in each) and "other"
        (different people, whatever the modality). A kind without a pair is left out.
    """
    features = F.normalize(features.float())
    distances = pairwise_distances(features, features)
    same = targets[:, None] == targets
    other_clip = ~torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    within = same & other_clip & (modalities[:, None] == modalities)
    pairs = {
        "visible": within & (modalities == 0),
        "infrared": within & (modalities == 1),
        "cross": same & (modalities[:, None] != modalities),
        "other": ~same,
    }
    return {kind: distances[chosen].mean() for kind, chosen in pairs.items() if chosen.any()}
