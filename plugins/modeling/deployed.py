"""The part of a visible-infrared model that evaluation uses, for export."""

import torch
from torch import Tensor, nn

from plugins.modeling.meta_arch.aggregate import aggregate
from plugins.modeling.meta_arch.vvi_baseline import VVIBaseline


class Deployed(nn.Module):
    """Turns pixels into features without the parts that only training needs.

    It has no attacker, cross-modal attention or classifier. Every frame goes through each stem, so
    that the graph does not depend on the modalities.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, model: VVIBaseline):
        """Share the parts of ``model``, and set them to evaluation mode."""
        super().__init__()
        self.backbone = model.backbone
        self.pooling = model.pooling
        self.temporal = model.temporal
        self.heads = model.heads.without_classifier()
        self.register_buffer("pixel_mean", model.pixel_mean)
        self.register_buffer("pixel_std", model.pixel_std)
        self.eval()

    def forward(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Compute features of clips, equal to those of the model in evaluation.

        Args:
            images: (B, T, 3, H, W) RGB in [0, 255], as read from the files, float32.
            modalities: (B,) 0 visible, 1 infrared.

        Returns:
            (B, D), of length 1.
        """
        frames = images.shape[1]
        normalized = ((images - self.pixel_mean) / self.pixel_std).flatten(0, 1)
        visible_stem, *infrared_stem = self.backbone.stems
        maps = visible_stem(normalized)
        if infrared_stem:
            infrared = modalities[:, None, None, None, None] == 1
            of_both = (infrared_stem[0](normalized), maps)
            chosen = torch.where(infrared, *(each.unflatten(0, (-1, frames)) for each in of_both))
            maps = chosen.flatten(0, 1)
        return self.heads(
            aggregate(self.backbone, self.temporal, maps, frames, modalities, pooling=self.pooling)
        )
