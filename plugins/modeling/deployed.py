"""The part of a model that evaluation uses, for export."""

import copy

import torch
from fastreid.modeling.heads import EmbeddingHead
from torch import Tensor, nn

from plugins.modeling.heads.video_head import sharing_copy
from plugins.modeling.meta_arch.aggregate import aggregate
from plugins.modeling.meta_arch.vvi_baseline import VVIBaseline


def deploy(model: nn.Module) -> nn.Module:
    """Return what evaluation needs of a model, as a module of tensors instead of batches.

    Args:
        model: a meta-architecture of this package, of fastreid or of a user; its parts are shared.

    Returns:
        A module of ``images``, (B, T, 3, H, W) or (B, 3, H, W) in [0, 255], float32, and, unless
        the model takes images alone, ``modalities`` (B,). It gives features (B, D).
    """
    return Deployed(model) if isinstance(model, VVIBaseline) else DeployedBatch(model)


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
            of_infrared, of_visible = (
                each.unflatten(0, (-1, frames)) for each in (infrared_stem[0](normalized), maps)
            )
            maps = torch.where(infrared, of_infrared, of_visible).flatten(0, 1)
        return self.heads(
            aggregate(self.backbone, self.temporal, maps, frames, modalities, pooling=self.pooling)
        )


class DeployedBatch(nn.Module):
    """Turns pixels into features by a model of fastreid's or of a user, without classifiers."""

    def __init__(self, model: nn.Module):
        """Share the parts of ``model`` but the weights of classifiers; set evaluation mode."""
        super().__init__()
        self.model = without_classifiers(model).eval()

    def forward(self, images: Tensor, modalities: Tensor | None = None) -> Tensor:
        """Compute features, see :func:`deploy`."""
        # A copy: fastreid normalizes the images of a batch in place.
        batch = {"images": images.clone()}
        if modalities is not None:
            batch["modalities"] = modalities
        features: Tensor = self.model(batch)
        return features


def without_classifiers(module: nn.Module) -> nn.Module:
    """Return a module with the same parts, where heads of fastreid's kind have no classifier."""
    twin = sharing_copy(module) if isinstance(module, EmbeddingHead) else copy.copy(module)
    twin._modules = {
        name: part if part is None else without_classifiers(part)
        for name, part in module._modules.items()
    }
    return twin
