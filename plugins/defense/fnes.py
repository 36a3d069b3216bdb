"""FNES: attacked images moved further out, with labels softened accordingly (DDDefense).

Legend: B images in the batch, C training people; x a clean image, x^ its attacked version, y the
person, n its farthest negative class, w a weight per image, U the uniform distribution.

    x_temp = x + gamma (x^ - x)         x_adv = w x + (1 - w) x_temp
    y_adv = w phi(y, l1) + (1 - w) tau(phi(y, l2), v)

with the same w in both lines. v = 0 is adversarial vertex mixup (Lee et al., CVPR 2020); gamma = 1,
w = 0 and v = 0 are metric adversarial training with label smoothing l2, to the last bit.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from torch import Tensor

from plugins.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Softening:
    """Holds the settings of FNES, DEFENSE.FNES.

    Attributes:
        gamma: reach of x_temp, in distances from x to x^; at least 1.
        mix: (a, b) of w ~ U(a, b).
        clean_mass: l1, the true class's share of the label of x.
        attacked_mass: l2, its share of the label of x_temp before mass is moved.
        moved_mass: v, the part of l2 that moves to the farthest negative class.

    Raises:
        InputError: a is above b, or v above l2.
    """

    gamma: float
    mix: tuple[float, float]
    clean_mass: float
    attacked_mass: float
    moved_mass: float

    def __post_init__(self) -> None:
        """Check the settings against each other; the keys have checked each alone."""
        if self.mix[0] > self.mix[1]:
            raise InputError(f"DEFENSE.FNES.MIX: {self.mix}; expected (a, b) with 0 <= a <= b <= 1")
        if self.moved_mass > self.attacked_mass:
            raise InputError(
                f"DEFENSE.FNES.MOVED_MASS: {self.moved_mass}; expected 0 to ATTACKED_MASS, which "
                f"is {self.attacked_mass}"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Softening":
        """Read ``DEFENSE.FNES``."""
        settings = cfg.DEFENSE.FNES
        return cls(
            gamma=settings.GAMMA,
            mix=tuple(settings.MIX),
            clean_mass=settings.CLEAN_MASS,
            attacked_mass=settings.ATTACKED_MASS,
            moved_mass=settings.MOVED_MASS,
        )

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw weights w (count,), float32 on the generator's device."""
        low, high = self.mix
        uniform = torch.rand(count, generator=generator, device=generator.device)
        return low + (high - low) * uniform

    def images(self, clean: Tensor, attacked: Tensor, weights: Tensor) -> Tensor:
        """Return x_adv; see ``extend``."""
        return extend(clean, attacked, weights, self.gamma)

    def labels(self, targets: Tensor, negatives: Tensor, weights: Tensor, classes: int) -> Tensor:
        """Return y_adv (B, C) for people, their farthest negatives and weights, (B,) each."""
        clean = smooth_labels(targets, classes, self.clean_mass)
        attacked = smooth_labels(targets, classes, self.attacked_mass)
        attacked = move_mass(attacked, targets, negatives, self.moved_mass)
        weights = weights[:, None].to(clean)
        return weights * clean + (1 - weights) * attacked


def extend(clean: Tensor, attacked: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Return x_adv = x + (1 - w) gamma (x^ - x), clipped to [0, 255].

    It leaves the attack's budget where (1 - w) gamma > 1, as the method intends.

    Args:
        clean: x, (B, ...), gray levels.
        attacked: x^, same shape.
        weights: w, (B,).
        gamma: at least 1.

    Returns:
        Images of the same shape; exactly x where w = 1, and exactly x^ where (1 - w) gamma = 1.
    """
    reach = ((1 - weights.to(clean)) * gamma).view(-1, *[1] * (clean.dim() - 1))
    # lerp, unlike the sum above, is exact at both ends.
    return clean.lerp(attacked, reach).clamp(0, 255)


def smooth_labels(targets: Tensor, classes: int, kept: float) -> Tensor:
    """Return phi(y, l): l on the true class, the rest in equal parts on all others.

    It equals fastreid's label smoothing with MODEL.LOSSES.CE.EPSILON = 1 - l; torch distributes
    epsilon over the true class too.

    Args:
        targets: (B,) people, below ``classes``.
        classes: C, at least 2.
        kept: l.

    Returns:
        (B, C) float32; rows sum to 1.
    """
    rest = torch.full((len(targets), classes), (1 - kept) / (classes - 1), device=targets.device)
    return rest.scatter(1, targets[:, None], kept)


def move_mass(labels: Tensor, targets: Tensor, negatives: Tensor, mass: float) -> Tensor:
    """Return tau(y, v): v moves from the true class to the farthest negative class.

    Args:
        labels: (B, C), with at least ``mass`` on each true class.
        targets: (B,) true classes.
        negatives: (B,) farthest negative classes; nothing moves if it is the true class.
        mass: v.
    """
    moved = torch.full_like(labels[:, :1], mass)
    moved = moved.masked_fill((targets == negatives)[:, None], 0)
    true, negative = targets[:, None], negatives[:, None]
    return labels.scatter_add(1, true, -moved).scatter_add(1, negative, moved)


def soft_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Average -sum_c y_c log p_c over the batch, in nats and at least in float32.

    Args:
        logits: (B, C).
        labels: (B, C), rows sum to 1.
    """
    dtype = torch.promote_types(logits.dtype, labels.dtype)
    return -(labels * F.log_softmax(logits, dim=1, dtype=dtype)).sum(dim=1).mean()
