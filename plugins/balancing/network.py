"""The network F of the generator: diffusers' UNet with two conditions, built from numbers only."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import Tensor, nn

from plugins.config import check_value
from plugins.errors import InputError


class ConditionalUNet(nn.Module):
    """A UNet conditioned on noise level, person and camera; the latter two may be unknown.

    Attributes:
        people: label of an unknown person, the number of known ones.
        cameras: label of an unknown camera, likewise.
    """

    def __init__(
        self,
        people: int,
        cameras: int,
        size: Sequence[int],
        channels: Sequence[int],
        layers: int,
        patch: int = 1,
    ) -> None:
        """Draw random weights from torch's global generator.

        Args:
            people: number of people.
            cameras: number of cameras.
            size: H, W; multiples of patch x 2^(levels - 1).
            channels: channels of each level, multiples of 8; each level but the first halves the
                resolution, and the last has attention.
            layers: residual blocks of a level.
            patch: side of the squares of pixels whose values become the channels of the first
                level.

        Raises:
            InputError: patch or channels are out of their ranges, or the sides of the size are no
                multiples of patch x 2^(levels - 1).
        """
        super().__init__()
        check_value("DATASETS.BALANCE.GENERATOR.PATCH", patch)
        check_value("DATASETS.BALANCE.GENERATOR.CHANNELS", list(channels))
        step = patch * 2 ** (len(channels) - 1)
        if len(size) != 2 or any(side < step or side % step for side in size):
            raise InputError(
                f"DATASETS.BALANCE.GENERATOR.SIZE: {list(size)}; expected [height, width], "
                f"multiples of {step} for {len(channels)} levels of patches of {patch}"
            )
        self.people, self.cameras, self.patch = people, cameras, patch
        plain = len(channels) - 1
        groups = math.gcd(32, *channels)
        self.unet = UNet2DModel(
            sample_size=tuple(side // patch for side in size),
            in_channels=3 * patch**2,
            out_channels=3 * patch**2,
            block_out_channels=tuple(channels),
            layers_per_block=layers,
            down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
            norm_num_groups=groups,
            # Otherwise, with scale_shift, the innermost attention has no norm: its scores grow to
            # 1e8, and gradients overflow.
            attn_norm_num_groups=groups,
            # "fourier" would divide the output by the noise level, which EDM's c_out already does.
            time_embedding_type="positional",
            # The condition scales and shifts the channels of each block, as EDM's.
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
        )
        self.person = nn.Embedding(people + 1, 4 * channels[0])
        self.camera = nn.Embedding(cameras + 1, 4 * channels[0])

    def forward(self, images: Tensor, noise: Tensor, people: Tensor, cameras: Tensor) -> Tensor:
        """Compute F of :mod:`plugins.balancing.edm`.

        Args:
            images: (B, 3, H, W), scaled by c_in.
            noise: (B,), c_noise.
            people: (B,) int64.
            cameras: (B,) int64.

        Returns:
            (B, 3, H, W).
        """
        condition = self.person(people) + self.camera(cameras)
        patches = F.pixel_unshuffle(images, self.patch)
        unet = cast(Callable, self.unet)  # diffusers does not type its models as callable
        return F.pixel_shuffle(unet(patches, noise, class_labels=condition).sample, self.patch)

    def forget(
        self, people: Tensor, cameras: Tensor, share: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Replace each label by "unknown" with probability ``share``, independently."""
        drops = torch.rand((2, len(people)), generator=generator) < share
        return (
            people.masked_fill(drops[0].to(people.device), self.people),
            cameras.masked_fill(drops[1].to(cameras.device), self.cameras),
        )
