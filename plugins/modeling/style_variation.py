"""Vary brightness, contrast and tint of a clip, as other light and another camera would.

Legend: B clips of T frames of 3 x H x W.
"""

import torch
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.config import check_value
from plugins.errors import InputError


def style_factors(
    modalities: Tensor,
    low: float,
    high: float,
    probability: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a factor for each channel of a clip.

    Args:
        modalities: (B,) 0 visible, 1 infrared.
        low: least factor.
        high: largest factor.
        probability: probability of a clip to be changed.
        generator: source of the draws, on the CPU; None for torch's global one, seeded by ``SEED``.

    Returns:
        (B, 3) on the device of ``modalities``: three draws from U(low, high) for a visible clip,
        one for all channels of an infrared clip, which has no color; 1 for a clip that stays.
    """
    # All are drawn, on the CPU, so that a clip's draws depend neither on modalities nor on the
    # device.
    factors = low + (high - low) * torch.rand(len(modalities), 3, generator=generator)
    changed = torch.rand(len(modalities), 1, generator=generator) < probability
    factors = torch.where(changed, factors, 1.0).to(modalities.device)
    return torch.where((modalities == 1)[:, None], factors[:, :1], factors)


class StyleVariation(nn.Module):
    """Multiplies the normalized channels of a training clip, all its frames alike.

    Zhou et al. (SAADG), ACM MM 2023; Liang et al. (M3-ReID), TIFS 2025. It works after the
    normalization, where 0 is the mean color, and therefore in the model: before it, pixels would
    leave [0, 255], the range in which attacks are bounded. Evaluation, and so an exported model,
    does not have it.

    Args:
        low: least factor.
        high: largest factor.
        probability: probability of a clip to be changed.

    Raises:
        InputError: the factors are not in order, or reach 0, or the probability is not in [0, 1].
    """

    @configurable
    def __init__(self, *, low: float, high: float, probability: float):
        super().__init__()
        check_value("INPUT.STYLE_VARIATION.RANGE", [low, high])
        check_value("INPUT.STYLE_VARIATION.PROB", probability)
        if low > high:
            raise InputError(
                f"INPUT.STYLE_VARIATION.RANGE: {[low, high]}; expected the smallest factor first"
            )
        self.low, self.high, self.probability = low, high, probability

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``INPUT.STYLE_VARIATION``."""
        settings = cfg.INPUT.STYLE_VARIATION
        check_value("INPUT.STYLE_VARIATION.RANGE", settings.RANGE)
        low, high = settings.RANGE
        return {"low": low, "high": high, "probability": settings.PROB}

    def forward(self, normalized: Tensor, modalities: Tensor) -> Tensor:
        """Scale normalized clips (B, T, 3, H, W) of modalities (B,); in evaluation return them."""
        if not self.training:
            return normalized
        factors = style_factors(modalities, self.low, self.high, self.probability)
        return normalized * factors[:, None, :, None, None]
