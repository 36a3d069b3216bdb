"""Base class of temporal parts that read centered descriptors.

Legend: B clips, T frames, C channels of the trunk, h x w its maps.
"""

from typing import Any

import torch
from fastreid.config import CfgNode
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.temporal.modality_norm import ModalityNorm


class CenteredPart(nn.Module):
    """A temporal part that normalizes the input of its layers by the statistics of the modality.

    So its arguments are ``part(maps, modalities, source_maps)``, while a part that only averages
    takes maps alone.

    Attributes:
        source: stage of the trunk whose maps are normalized, a name of ``stage_maps``.
        norm: normalizes these maps.
    """

    source: str = "layer4"
    norm: ModalityNorm

    def frame_features(
        self, maps: Tensor, modalities: Tensor, source_maps: Tensor | None = None
    ) -> Tensor:
        """Compute vectors of frames, whose mean over the frames is the feature of their clip.

        Args:
            maps: (B, T, C, h, w) of the last stage, or (B, T, C, 1, 1) pooled.
            modalities: (B,) 0 visible, 1 infrared.
            source_maps: (B, T, C', h', w') of ``source``; None if that is the last stage.

        Returns:
            (B, T, C) float32, followed by the relation if the part has one.
        """
        raise NotImplementedError

    def forward(
        self, maps: Tensor, modalities: Tensor, source_maps: Tensor | None = None
    ) -> Tensor:
        """Compute features of clips, (B, C + R); arguments as in ``frame_features``."""
        return self.frame_features(maps, modalities, source_maps).mean(dim=1)

    def centered_frames(self, maps: Tensor, modalities: Tensor) -> tuple[Tensor, Tensor]:
        """Average maps (B, T, C, h, w) over space, (B, T, C) float32, and normalize the result."""
        frames = maps.float().mean(dim=(-2, -1))
        return frames, self.norm(frames.unsqueeze(2), modalities).squeeze(2)

    @staticmethod
    def frame_settings(cfg: CfgNode) -> dict[str, Any]:
        """Read the trunk's channels, and build the norm of a part that centers frames."""
        channels = cfg.MODEL.BACKBONE.FEAT_DIM
        return {"channels": channels, "norm": ModalityNorm.from_cfg(cfg, 1, channels)}

    @property
    def is_watched(self) -> bool:
        """Tell a pass of training from one of an attack or of an evaluation."""
        return self.training and torch.is_grad_enabled() and self.norm.track_running_stats

    def check_weights(self, names: set[str], path: str) -> None:
        """Raise InputError if weights are those of an earlier version of this part.

        Args:
            names: names of the tensors that a file holds for this part, such as
                "lstm.weight_ih_l0".
            path: the file.
        """
        if names & set(self.state_dict()) and not any(name.startswith("norm.") for name in names):
            name = type(self).__name__
            raise InputError(
                f"{path}: its {name} is that of an earlier version, which did not center its "
                f"input and hardly depended on it; this version cannot run it: train again, or "
                f"evaluate it with the package at commit c3292dd"
            )
