"""Attack by a module that learns: channel attention on the map of each frame."""

from typing import Any

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.backbones.two_stream import by_modality
from plugins.modeling.self_attack.attacker import Attacker
from plugins.modeling.self_attack.base import Losses, Passes
from plugins.modeling.self_attack.budget import bounded


def channel_attention(query: Tensor, key: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
    """Compute attention between channels: softmax(q k^T * temperature) v, with q, k of unit rows.

    Args:
        query: (N, C, h, w); a channel's row is its h * w values.
        key: same shape.
        value: same shape.
        temperature: (heads, 1, 1), multiplies the cosines.

    Returns:
        Same shape as ``query``; channels mix within their head only.
    """
    heads = len(temperature)
    q, k, v = (x.flatten(2).unflatten(1, (heads, -1)) for x in (query, key, value))
    # In float32: half precision rounds the guard of a zero row away.
    unit_q, unit_k = F.normalize(q.float(), dim=-1), F.normalize(k.float(), dim=-1)
    cosines = unit_q @ unit_k.transpose(-2, -1)
    mixed = (cosines * temperature).softmax(dim=-1).to(v.dtype) @ v  # (N, heads, C / heads, h * w)
    return mixed.reshape(query.shape)


class Interference(nn.Module):
    """Computes D of F0 for one modality; 18 k parameters at 64 channels.

    The layers normalize, make q, k and v, attend between channels, and mix.

    Args:
        heads: number of heads of the channel attention.
        channels: C.
    """

    def __init__(self, heads: int, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        inner = 3 * channels
        self.qkv = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False),
        )
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        for layer in (*self.qkv, self.mix):
            # Keeps the variance. torch's default loses two thirds of it per layer, and the attack
            # would start at a tenth of its budget.
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")

    def forward(self, maps: Tensor) -> Tensor:
        """Compute D, of the shape of F0 (N, C, h, w)."""
        query, key, value = self.qkv(self.norm(maps)).chunk(3, dim=1)
        return self.mix(channel_attention(query, key, value, self.temperature))


class SelfAttack(Attacker):
    """Delta from the map of each frame, by a module that learns L_A.

    Args:
        heads: number of heads of the channel attention, a divisor of C.
        channels: C, of the stem maps.
        **attacker: the other arguments of Attacker.

    Raises:
        InputError: the heads do not divide the channels, or L_cam has too few cameras.
    """

    # The attack turn has a clean pass for guides, an attacked one and its backward pass.
    passes = Passes(lower_forward=2, lower_backward=1, upper_forward=4, upper_backward=3)

    @configurable
    def __init__(self, *, heads: int, channels: int, **attacker: Any):
        super().__init__(channels=channels, **attacker)
        if channels % heads:
            raise InputError(
                f"MODEL.SELF_ATTACK.HEADS: expected a divisor of {channels}, found {heads}"
            )
        # Indexed by modality: 0 visible, 1 infrared.
        self.interference = nn.ModuleList([Interference(heads, channels) for _ in range(2)])

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.SELF_ATTACK``."""
        return {**super().from_config(cfg), "heads": cfg.MODEL.SELF_ATTACK.HEADS}

    def forward(self, maps: Tensor, modalities: Tensor, losses: Losses | None = None) -> Tensor:
        """Compute Delta of the stem maps, within the budget.

        Args:
            maps: F0, (N, C, h, w).
            modalities: (N,).
            losses: L_A; not used, as the module has learned it.

        Returns:
            Same shape as ``maps``.
        """
        return bounded(by_modality(self.interference, maps, modalities), maps, self.eps)
