"""Keep a perturbation of the stem maps within its budget: a share of each frame's norm.

Legend: N frames of C channels; F0 their stem maps (N, C, h, w); D the perturbation that an attack
computes, Delta the part of it within the budget.
"""

import torch
from torch import Tensor

# Guards divisions; no stem map that carries a picture has a norm near it.
TINY = 1e-12


def frame_norms(maps: Tensor) -> Tensor:
    """Compute the L2 norm of each map, (N, C, h, w) to (N, 1, 1, 1), float32."""
    return torch.linalg.vector_norm(maps, dim=(1, 2, 3), keepdim=True, dtype=torch.float32)


def budget_share(perturbation: Tensor, maps: Tensor, eps: float) -> Tensor:
    """Compute the factor to the largest norm, eps * |F0| / |D| per frame: (N, 1, 1, 1), float32."""
    return eps * frame_norms(maps) / frame_norms(perturbation).clamp_min(TINY)


def bounded(perturbation: Tensor, maps: Tensor, eps: float) -> Tensor:
    """Compute Delta = D * min(1, eps * |F0| / |D|), each frame by itself.

    Args:
        perturbation: D, (N, C, h, w).
        maps: F0, same shape.
        eps: largest norm of Delta as a share of that of F0.

    Returns:
        Delta, same shape; 0 where D is 0, with a finite gradient.
    """
    room = budget_share(perturbation, maps, eps)
    return perturbation * room.clamp_max(1).to(perturbation.dtype)


def relative_norm(perturbation: Tensor, maps: Tensor) -> Tensor:
    """Average |Delta| / |F0| over the frames, a scalar."""
    return (frame_norms(perturbation) / frame_norms(maps).clamp_min(TINY)).mean()
