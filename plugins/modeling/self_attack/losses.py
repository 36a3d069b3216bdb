"""Compute losses of the self-attack: pure functions, tensors in, tensors out.

Legend: N rows (frames or clips), B clips, D feature length; f~ the attacked twin of a feature f.
"""

import torch
from torch import Tensor


def other_class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log(1 - p[label]) in nats, mean over the rows.

    It is 0 if no row is classified as its label. With two classes it is the cross-entropy to the
    other one.

    Args:
        logits: (N, classes), two classes or more; p is their softmax.
        labels: (N,) the class of each row.
    """
    labeled = torch.zeros_like(logits, dtype=torch.bool).scatter(1, labels[:, None], True)
    others = logits.masked_fill(labeled, -torch.inf)
    return (logits.logsumexp(dim=1) - others.logsumexp(dim=1)).mean()


def feature_distances(features: Tensor, attacked: Tensor) -> Tensor:
    """Return |f - f~| of each clip, (B,), float32; the gradient is 0 for equal features.

    Args:
        features: f, (B, D), or (B, T, D) for vectors of frames, whose mean is f.
        attacked: f~, same shape.
    """
    gaps = features.float() - attacked.float()
    return torch.linalg.vector_norm(gaps if gaps.dim() == 2 else gaps.mean(dim=1), dim=1)
