"""Loss arithmetic: pure functions, tensors in, tensors out.

Legend: B clips in the batch, D feature length; f~ the attacked twin of a clean feature f, p and p~
its predictions. Distances are Euclidean, in feature units.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def pairwise_distances(rows: Tensor, columns: Tensor) -> Tensor:
    """Euclidean distances between features (B, D) and (G, D).

    Returns:
        (B, G). Computed from differences, not from products: exact for near features, and with
        gradient 0 where two features are identical.
    """
    return torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist")


def mean_hinge(gaps: Tensor, valid: Tensor) -> Tensor:
    """Mean of max(gap, 0) over the valid anchors.

    Args:
        gaps: (B,) values to push below 0; those of invalid anchors may be infinite or NaN.
        valid: (B,) bool.

    Returns:
        Scalar; with no valid anchor 0 that still carries a graph.
    """
    hinges = torch.where(valid, gaps, torch.zeros_like(gaps)).relu()
    return hinges.sum() / valid.sum().clamp_min(1)


def cross_modal_triplet(
    features: Tensor, targets: Tensor, modalities: Tensor, margin: float
) -> Tensor:
    """Hinge on the hardest positive and the hardest negative, both from the *other* modality.

    Args:
        features: (B, D).
        targets: (B,) person labels.
        modalities: (B,) 0 visible, 1 infrared.
        margin: gap to enforce between the two distances, feature units.

    Returns:
        Scalar mean over the anchors that have both; with none, 0 that still carries a graph.
    """
    distances = pairwise_distances(features, features)
    same = targets[:, None] == targets
    other_modality = modalities[:, None] != modalities
    positive, negative = same & other_modality, ~same & other_modality
    farthest_positive = distances.masked_fill(~positive, -torch.inf).amax(dim=1)
    nearest_negative = distances.masked_fill(~negative, torch.inf).amin(dim=1)
    valid = positive.any(dim=1) & negative.any(dim=1)
    return mean_hinge(margin + farthest_positive - nearest_negative, valid)


def confusion_loss(logits: Tensor, temperature: float) -> Tensor:
    """L_conf: cross-entropy of softmax(logits / temperature) to the uniform distribution.

    Args:
        logits: (B, classes) of the attacked features.
        temperature: above 1 it keeps confident logits from dominating the attack.

    Returns:
        Scalar; the attacker minimises it, down to log(classes).
    """
    return -(logits / temperature).log_softmax(dim=1).mean()


def reversed_triplet(features: Tensor, guides: Tensor, targets: Tensor, margin: float) -> Tensor:
    """L_rev: mean of max(0, m + d(f~, nearest other person) - d(f~, nearest same person)).

    Args:
        features: f~, (B, D); row i is the attacked twin of guide i.
        guides: clean features (B, D), without gradient. An anchor's own twin is not its nearest
            same person, or the attack would only learn to move away from its start.
        targets: (B,) person labels of both.
        margin: m, feature units.

    Returns:
        Scalar mean over the anchors that have both neighbours, 0 with none; the attacker minimises
        it.
    """
    distances = pairwise_distances(features, guides)
    same = targets[:, None] == targets
    twin = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    positive, negative = same & ~twin, ~same
    nearest_same = distances.masked_fill(~positive, torch.inf).amin(dim=1)
    nearest_other = distances.masked_fill(~negative, torch.inf).amin(dim=1)
    valid = positive.any(dim=1) & negative.any(dim=1)
    return mean_hinge(margin + nearest_other - nearest_same, valid)


def consistency_loss(clean_logits: Tensor, attacked_logits: Tensor) -> Tensor:
    """KL(p || p~) in nats, mean over the batch; the clean p is the teacher, without gradient.

    Args:
        clean_logits: (B, classes).
        attacked_logits: (B, classes).
    """
    teacher = clean_logits.detach().log_softmax(dim=1)
    student = attacked_logits.log_softmax(dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
