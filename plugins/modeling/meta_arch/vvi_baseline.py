"""The common skeleton of visible-infrared video re-ID.

Legend: B clips of T frames of 3 x H x W, N = B * T; h x w the size of a map; C its channels; D the
length of the test feature.
"""

import torch
from fastreid.config import CfgNode, configurable
from fastreid.utils import events
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.backbones import TwoStreamBackbone
from plugins.modeling.backbones.two_stream import STAGES
from plugins.modeling.cross_modal_attention import CrossModalAttention
from plugins.modeling.diagnostics import accuracy, mean_distances
from plugins.modeling.heads import VideoHead
from plugins.modeling.losses import Loss, build_losses
from plugins.registry import BACKBONE, HEADS, META_ARCH, TEMPORAL, lookup


def log_scalar(name: str, value: Tensor) -> None:
    """Put a scalar into fastreid's event storage, if a trainer has opened one."""
    if events._CURRENT_STORAGE_STACK:
        events.get_event_storage().put_scalar(name, value.detach())


@META_ARCH.register()
class VVIBaseline(nn.Module):
    """Stem of its modality, shared trunk, temporal aggregation, head, losses.

    In training ``model(batch)`` returns a dict of scalar losses, in evaluation features (B, D).

    Args:
        backbone: stems and trunk.
        temporal: maps (B, T, C, h, w) to features (B, C).
        heads: features to training outputs or test features.
        cross_modal: relates clip features of the two modalities in training; None: nothing does.
        losses: what the training outputs are judged by.
        pixel_mean: per channel, of images in [0, 255].
        pixel_std: per channel, same units.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: TwoStreamBackbone,
        temporal: nn.Module,
        heads: VideoHead,
        cross_modal: CrossModalAttention | None,
        losses: list[Loss],
        pixel_mean: list[float],
        pixel_std: list[float],
    ):
        super().__init__()
        self.backbone = backbone
        self.temporal = temporal
        self.heads = heads
        self.cross_modal = cross_modal
        self.loss_functions = losses
        # As in fastreid not part of a checkpoint: they come from the config.
        self.register_buffer("pixel_mean", torch.Tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.Tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build the parts that the config names.

        Raises:
            InputError: a name is unknown, or a part does not fit clips of two modalities.
        """
        model = cfg.MODEL
        backbone = lookup(BACKBONE, model.BACKBONE.NAME, "MODEL.BACKBONE.NAME")(cfg)
        if not isinstance(backbone, TwoStreamBackbone):
            raise InputError(
                f"MODEL.BACKBONE.NAME: {cls.__name__} needs a stem per modality; "
                f"found {model.BACKBONE.NAME}, expected build_two_stream_backbone"
            )
        heads = lookup(HEADS, model.HEADS.NAME, "MODEL.HEADS.NAME")(cfg)
        if not isinstance(heads, VideoHead):
            raise InputError(
                f"MODEL.HEADS.NAME: {cls.__name__} needs a head for clip features; "
                f"found {model.HEADS.NAME}, expected VideoHead"
            )
        return {
            "backbone": backbone,
            "temporal": lookup(TEMPORAL, model.TEMPORAL.NAME, "MODEL.TEMPORAL.NAME")(cfg),
            "heads": heads,
            "losses": build_losses(cfg),
            "pixel_mean": model.PIXEL_MEAN,
            "pixel_std": model.PIXEL_STD,
            # Last: the other parts start from the same draws with and without it.
            "cross_modal": (
                CrossModalAttention(cfg) if model.CROSS_MODAL_ATTENTION.ENABLED else None
            ),
        }

    @property
    def device(self) -> torch.device:
        """Where the model lies; batches are moved there."""
        return self.pixel_mean.device

    def forward(self, batch: dict) -> dict[str, Tensor] | Tensor:
        """Losses by name in training, features (B, D) in evaluation.

        Args:
            batch: ``images`` (B, T, 3, H, W), or (B, 3, H, W) for T = 1, float32 in [0, 255];
                ``modalities`` (B,), all visible when absent; in training ``targets`` (B,), all -1
                for no losses: fastreid's PreciseBN wants statistics alone. It is not changed, and
                ``images`` may require a gradient.
        """
        images, modalities = self.unpack(batch)
        features = self.clip_features(images, modalities)
        if not self.training:
            return self.heads(features)
        if (batch["targets"] < 0).all():
            self.outputs(features, self.moved(torch.zeros_like(batch["targets"])), modalities)
            return {}
        targets = self.moved(batch["targets"])
        outputs = self.outputs(features, targets, modalities)
        self.log_outputs(outputs, targets, modalities)
        return self.losses(outputs, targets, modalities)

    def moved(self, tensor: Tensor) -> Tensor:
        """The tensor on the model's device."""
        return tensor.to(self.device, non_blocking=True)

    def unpack(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Clips (B, T, 3, H, W) in [0, 255] and modalities (B,), on the model's device."""
        images = self.moved(batch["images"])
        if images.dim() == 4:
            images = images.unsqueeze(1)
        if "modalities" in batch:
            return images, self.moved(batch["modalities"])
        return images, torch.zeros(len(images), dtype=torch.long, device=self.device)

    def clip_features(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Clips (B, T, 3, H, W) in [0, 255] of modalities (B,) to features (B, C)."""
        return self.extract(self.stem_maps(images, modalities), frames=images.shape[1])

    def stem_maps(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Clips (B, T, 3, H, W) in [0, 255] of modalities (B,) to maps (N, 64, H/4, W/4)."""
        normalised = (images - self.pixel_mean) / self.pixel_std
        frame_modalities = modalities.repeat_interleave(images.shape[1])
        return self.backbone.stem(normalised.flatten(0, 1), frame_modalities)

    def extract(
        self,
        maps: Tensor,
        frames: int,
        modalities: Tensor | None = None,
        first: str = STAGES[0],
        earlier: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Stem maps (N, 64, h, w), or the maps that enter a later stage, to features (B, C).

        Args:
            maps: of clips of ``frames`` frames.
            frames: T.
            modalities: (B,).
            first: name of the stage that ``maps`` enter.
            earlier: maps after stages before ``first``, by name.
        """
        if first == STAGES[0]:
            maps = self.backbone.trunk(maps)
        else:
            maps = self.backbone.stage_maps(maps, first)[STAGES[-1]]
        return self.temporal(maps.unflatten(0, (-1, frames)))

    def outputs(self, features: Tensor, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """The head's training outputs for features (B, C) of persons (B,) in modalities (B,)."""
        if self.cross_modal is not None:
            features = self.cross_modal(features, targets, modalities)
        return self.heads(features, targets)

    def losses(
        self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor
    ) -> dict[str, Tensor]:
        """Each configured loss of the head's training outputs, by name; in float32.

        Squared distances are differences of large numbers: of features of length 18, half precision
        moves them by more than the margin.
        """
        outputs = {name: output.float() for name, output in outputs.items()}
        with torch.autocast(self.device.type, enabled=False):
            return {loss.key: loss(outputs, targets, modalities) for loss in self.loss_functions}

    def log_outputs(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> None:
        """Log ``cls_accuracy`` and ``distance/KIND`` (see ``mean_distances``).

        The distances are between the features that the losses see.
        """
        log_scalar("cls_accuracy", accuracy(outputs["pred_class_logits"], targets))
        for kind, distance in mean_distances(outputs["features"], targets, modalities).items():
            log_scalar(f"distance/{kind}", distance)
