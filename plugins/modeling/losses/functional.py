"""Compute losses: pure functions, tensors in, tensors out.

Legend: B clips in the batch, D feature length; f~ the attacked twin of a clean feature f, p and p~
its predictions. Distances are Euclidean, in feature units.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class _Distances(torch.autograd.Function):
    """``torch.cdist`` with a derivative that can be derived again.

    Value and derivative are those of ``cdist``, to the last bit. Only a derivative that is to be
    derived is computed from the differences, which hold (B, G, D) numbers.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor) -> Tensor:
        distances = torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist")
        ctx.save_for_backward(rows, columns, distances)
        return distances

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns, distances = ctx.saved_tensors
        if not torch.is_grad_enabled():
            of_distances = torch.ops.aten._cdist_backward
            return (
                of_distances(gradient.contiguous(), rows, columns, 2.0, distances),
                of_distances(gradient.T.contiguous(), columns, rows, 2.0, distances.T.contiguous()),
            )
        apart = distances > 0
        weights = torch.where(apart, gradient / torch.where(apart, distances, 1), 0)
        pulls = weights[:, :, None] * (rows[:, None] - columns)
        return pulls.sum(dim=1), -pulls.sum(dim=0)


def pairwise_distances(rows: Tensor, columns: Tensor) -> Tensor:
    """Compute Euclidean distances between features (B, D) and (G, D), twice differentiable.

    They come from differences, not from products: they are exact for near features, and the
    gradient is 0 where two features are identical.

    Returns:
        (B, G), at least float32.
    """
    dtype = torch.promote_types(rows.dtype, torch.float32)
    return _Distances.apply(rows.contiguous().to(dtype), columns.contiguous().to(dtype))


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Compute the softmax of each row of (B, G) where ``mask`` is True; 0 elsewhere.

    A row without any column is all 0, with gradient 0.
    """
    least = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, least).softmax(dim=1) * mask


def group_means(
    features: Tensor, targets: Tensor, modalities: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute centers: the mean feature of each person in each modality, as far as in the batch.

    Args:
        features: (B, D).
        targets: (B,) person labels.
        modalities: (B,) 0 visible, 1 infrared.

    Returns:
        Centers (G, D), their person labels (G,) and their modalities (G,), sorted by both.
    """
    labels = torch.stack([targets, modalities], dim=1)
    groups, group, counts = labels.unique(dim=0, return_inverse=True, return_counts=True)
    sums = features.new_zeros(len(groups), features.shape[1]).index_add(0, group, features)
    return sums / counts[:, None], groups[:, 0], groups[:, 1]


def valid_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Average values (B,) where ``valid`` (B,) is True; with none, 0 that still carries a graph."""
    return torch.where(valid, values, torch.zeros_like(values)).sum() / valid.sum().clamp_min(1)


def mean_hinge(gaps: Tensor, valid: Tensor) -> Tensor:
    """Average max(gap, 0) over the valid anchors.

    Args:
        gaps: (B,) values to push below 0; those of invalid anchors may be infinite or NaN.
        valid: (B,) bool.

    Returns:
        Scalar; without a valid anchor 0 that still carries a graph.
    """
    return valid_mean(gaps.relu(), valid)


def batch_hard(distances: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Average max(0, margin + farthest positive - nearest negative) over anchors that have both.

    Args:
        distances: (B, G), a row for each anchor.
        positive: (B, G) bool, pairs to pull together.
        negative: (B, G) bool, pairs to push apart.
        margin: feature units.

    Returns:
        Scalar; without such an anchor 0 that still carries a graph.
    """
    farthest_positive = distances.masked_fill(~positive, -torch.inf).amax(dim=1)
    nearest_negative = distances.masked_fill(~negative, torch.inf).amin(dim=1)
    valid = positive.any(dim=1) & negative.any(dim=1)
    return mean_hinge(margin + farthest_positive - nearest_negative, valid)


def cross_modal_triplet(
    features: Tensor, targets: Tensor, modalities: Tensor, margin: float
) -> Tensor:
    """Compute a hinge on the hardest positive and negative, both from the *other* modality.

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
    return batch_hard(distances, same & other_modality, ~same & other_modality, margin)


def hetero_center_triplet(
    features: Tensor, targets: Tensor, modalities: Tensor, margin: float
) -> Tensor:
    """Compute a hinge between centers: a person's other modality against the nearest other person.

    Liu, Tan and Zhou, IEEE TMM 2020, arXiv 2008.06223; they add up the anchors, this is their mean.

    Args:
        features: (B, D).
        targets: (B,) person labels.
        modalities: (B,) 0 visible, 1 infrared.
        margin: rho, feature units.

    Returns:
        Scalar mean over the centers of people who have both modalities, if there is anyone else;
        with none, 0 that still carries a graph. A person of one modality is a negative only.
    """
    centers, people, sides = group_means(features, targets, modalities)
    same = people[:, None] == people
    other_modality = sides[:, None] != sides
    return batch_hard(pairwise_distances(centers, centers), same & other_modality, ~same, margin)


def weighted_regularized_triplet(features: Tensor, targets: Tensor) -> Tensor:
    """Compute log(1 + exp(sum_p w_p d_p - sum_n w_n d_n)) over all pairs, hard ones weighted up.

    w_p is the softmax of d over an anchor's positives, w_n that of -d over its negatives. Ye et
    al., TPAMI 2021 (AGW), arXiv 2001.04193. There is no margin. An anchor is not among its
    positives; fastreid's triplet loss with margin 0 and no hard mining counts it, at distance 0.

    Args:
        features: (B, D).
        targets: (B,) person labels.

    Returns:
        Scalar mean over the anchors that have both; with none, 0 that still carries a graph.
    """
    distances = pairwise_distances(features, features)
    same = targets[:, None] == targets
    positive = same & ~torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    far = (masked_softmax(distances, positive) * distances).sum(dim=1)
    near = (masked_softmax(-distances, ~same) * distances).sum(dim=1)
    valid = positive.any(dim=1) & (~same).any(dim=1)
    return valid_mean(F.softplus(far - near), valid)


def modality_divergence(logits: Tensor, targets: Tensor, modalities: Tensor) -> Tensor:
    """Compute (KL(p || q) + KL(q || p)) / 2 in nats, mean over people; p visible, q infrared.

    p and q are the softmax of a person's mean logits in one modality. Both directions have a
    gradient, as in deep mutual learning (Zhang et al., CVPR 2018): neither modality knows better.
    Means over a person's clips are this package's choice, as clips of the two are not paired.

    Args:
        logits: (B, classes).
        targets: (B,) person labels.
        modalities: (B,) 0 visible, 1 infrared.

    Returns:
        Scalar mean over people who have both; with none, 0 that still carries a graph.
    """
    centers, people, sides = group_means(logits, targets, modalities)
    pairs = (people[:, None] == people) & (sides[:, None] < sides)
    visible, infrared = pairs.nonzero(as_tuple=True)
    p, q = centers[visible].log_softmax(dim=1), centers[infrared].log_softmax(dim=1)
    return ((p.exp() - q.exp()) * (p - q)).sum() / (2 * max(len(visible), 1))


def confusion_loss(logits: Tensor, temperature: float) -> Tensor:
    """Compute L_conf: cross-entropy of softmax(logits / temperature) to the uniform distribution.

    Args:
        logits: (B, classes) of the attacked features.
        temperature: above 1 it keeps confident logits from dominating the attack.

    Returns:
        Scalar; the attacker minimizes it, down to log(classes).
    """
    return -(logits / temperature).log_softmax(dim=1).mean()


def reversed_triplet(features: Tensor, guides: Tensor, targets: Tensor, margin: float) -> Tensor:
    """Compute L_rev: mean of max(0, m + d(f~, nearest other person) - d(f~, nearest same person)).

    Args:
        features: f~, (B, D); row i is the attacked twin of guide i.
        guides: clean features (B, D), without gradient. The twin of an anchor does not count as its
            nearest same person, or the attack would only learn to move away from its start.
        targets: (B,) person labels of both.
        margin: m, feature units.

    Returns:
        Scalar mean over the anchors that have both neighbors, 0 with none; the attacker minimizes
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
    """Compute KL(p || p~) in nats, mean over the batch; the teacher, clean p, has no gradient.

    Args:
        clean_logits: (B, classes).
        attacked_logits: (B, classes).
    """
    teacher = clean_logits.detach().log_softmax(dim=1)
    student = attacked_logits.log_softmax(dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
