"""What temporal parts share that read centered descriptors.

Legend: B clips, T frames, C channels of the trunk, h x w its maps.
"""

import torch
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.temporal.modality_norm import ModalityNorm


class CenteredPart(nn.Module):
    """A temporal part that normalizes what its layers read by the statistics of the modality.

    So it takes more than a part that only averages, which is called with maps alone:
    ``part(maps, modalities, source_maps)``.

    Attributes:
        source: stage of the trunk whose maps are normalized, a name of ``stage_maps``.
        norm: normalizes them.
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
            (B, T, C) float32, and behind that what the relation path adds, if the part has one.
        """
        raise NotImplementedError

    def forward(
        self, maps: Tensor, modalities: Tensor, source_maps: Tensor | None = None
    ) -> Tensor:
        """Features of clips, (B, C) and the relation; arguments as in ``frame_features``."""
        return self.frame_features(maps, modalities, source_maps).mean(dim=1)

    @property
    def is_watched(self) -> bool:
        """Whether this pass is one of training itself, not of an attack or of an evaluation."""
        return self.training and torch.is_grad_enabled() and self.norm.track_running_stats

    def check_weights(self, names: set[str], path: str) -> None:
        """Raise InputError if weights are those of an earlier version of this part.

        Args:
            names: of the tensors that a file holds for this part, "lstm.weight_ih_l0" for example.
            path: of the file.
        """
        own = set(self.state_dict())
        if names & own and not any(name.startswith("norm.") for name in names):
            name = type(self).__name__
            raise InputError(
                f"{path}: its {name} is that of an earlier version, which did not center its "
                f"input and hardly depended on it; this version cannot run it: train again, or "
                f"evaluate it with the package at commit c3292dd"
            )
