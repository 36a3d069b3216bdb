"""Base class of all kinds of self-attack.

Legend: B clips of T frames, N = B * T; C channels of h x w maps; f~ the features of attacked maps.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from plugins.modeling.precision import no_autocast
from plugins.modeling.self_attack.labels import Labels

# L_A by name, of attacked maps.
Losses = Callable[[Tensor], dict[str, Tensor]]


class CleanPass(NamedTuple):
    """The batch that an attack sees.

    Attributes:
        maps: the maps to attack, (N, C, h, w), with the graph that leads to them.
        labels: labels of the clips.
    """

    maps: Tensor
    labels: Labels


class Passes(NamedTuple):
    """Cost of one batch: both turns, with the backward passes of both players.

    Attributes:
        lower_forward: forward passes up to the attacked maps.
        lower_backward: backward passes through the same layers.
        upper_forward: forward passes from the attacked maps to the losses.
        upper_backward: backward passes through the same layers.
    """

    lower_forward: int
    lower_backward: int
    upper_forward: int
    upper_backward: int


class FeatureAttack(nn.Module):
    """An attack on the maps of the network that trains against it.

    Attributes:
        after: stage whose maps are attacked, "stem" or a name of ``stage_maps``.
        normalization: value of ``MODEL.SELF_ATTACK.NORMALIZATION`` "auto": the statistics of the
            "attacked" or of the "clean" batch normalize attacked maps.
        passes: the cost. Training without an attack costs one pass of each sort.
    """

    after: str = "stem"
    normalization: str = "attacked"
    passes: Passes

    def attacked_maps(self, clean: CleanPass, losses: Losses) -> Tensor:
        """Attack the maps of a batch; the change itself has no gradient.

        By default the attacked maps are F0 + Delta, where Delta is the module's output.

        Args:
            clean: the batch.
            losses: L_A of maps like ``clean.maps``, normalized as attacked ones are.

        Returns:
            (N, C, h, w).
        """
        labels = clean.labels
        with torch.no_grad():
            delta = self(clean.maps, labels.of_frames(labels.modalities), losses)
        return clean.maps + delta

    def reid_losses(
        self, outputs: dict[str, Tensor], guides: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms of L_A that judge the re-ID network's outputs; none by default.

        Args:
            outputs: the head's training dict for the attacked clips, (B, classes) and (B, D).
            guides: clean features (B, D).
            targets: (B,) person labels.
        """
        return {}

    def interference_losses(
        self, attacked_maps: Tensor, modalities: Tensor, cameras: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms of L_A that judge the attacked maps; none by default.

        Args:
            attacked_maps: (N, C, h, w).
            modalities: (N,) 0 visible, 1 infrared.
            cameras: (N,) camera labels, from 0.
        """
        return {}


def map_gradient(maps: Tensor, losses: Losses) -> Tensor:
    """Compute the gradient of the sum of the losses at maps (N, C, h, w); same shape, float32."""
    point = maps.detach().float().requires_grad_(True)
    # In float32: half precision rounds gradients this small to 0.
    with torch.enable_grad(), no_autocast(maps.device):
        (gradient,) = torch.autograd.grad(cast(Tensor, sum(losses(point).values())), point)
    return gradient
