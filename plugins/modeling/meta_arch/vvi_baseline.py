"""The common skeleton of visible-infrared video re-ID.

Legend: B clips of T frames of 3 x H x W, N = B * T; h x w the size of a map; C its channels, also
the length of an appearance; R the length of the relation behind it in a clip's feature, 0 for most
temporal parts; D the length of the test feature.
"""

import torch
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.backbones import TwoStreamBackbone
from plugins.modeling.backbones.two_stream import STAGES
from plugins.modeling.cross_modal_attention import CrossModalAttention
from plugins.modeling.diagnostics import accuracy, log_scalar, mean_distances
from plugins.modeling.heads import VideoHead
from plugins.modeling.heads.video_head import FRAME, RELATION
from plugins.modeling.losses import build_losses
from plugins.modeling.losses.base import Outputs, key_of, loss_of_batch
from plugins.modeling.meta_arch.aggregate import aggregate
from plugins.modeling.meta_arch.frame_level import check_frame_level, frame_batch
from plugins.modeling.pooling import MeanPooling, build_pooling
from plugins.modeling.precision import no_autocast
from plugins.modeling.style_variation import StyleVariation
from plugins.registry import BACKBONE, HEADS, META_ARCH, TEMPORAL, construct, lookup

# Losses on the training outputs of a relation.
RELATION_LOSSES = ["CrossEntropyLoss", "CrossModalTriplet"]


@META_ARCH.register()
class VVIBaseline(nn.Module):
    """Stem of its modality, shared trunk, temporal aggregation, head, losses.

    In training ``model(batch)`` returns a dict of scalar losses, in evaluation features (B, D).

    Args:
        backbone: stems and trunk.
        temporal: maps (B, T, C, h, w) to features (B, C); a CenteredPart also takes modalities and
            the maps of its source.
        heads: features to training outputs or test features.
        cross_modal: relates clip features of the two modalities in training; None for no relation.
        losses: see ``build_losses``; their parameters are trained with the rest.
        pixel_mean: mean of each channel, of images in [0, 255].
        pixel_std: standard deviation of each channel, same units.
        relation_losses: losses on the training outputs of a relation.
        relation_weight: weight of these losses.
        frame_losses: losses on the training outputs of frames.
        frame_loss_weight: weight of these losses.
        pooling: see :func:`aggregate`.
        style_variation: changes normalized clips in training; None for no change.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: TwoStreamBackbone,
        temporal: nn.Module,
        heads: VideoHead,
        cross_modal: CrossModalAttention | None,
        losses: nn.ModuleList,
        pixel_mean: list[float],
        pixel_std: list[float],
        relation_losses: nn.ModuleList | None = None,
        relation_weight: float = 1.0,
        frame_losses: nn.ModuleList | None = None,
        frame_loss_weight: float = 1.0,
        pooling: nn.Module | None = None,
        style_variation: StyleVariation | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.temporal = temporal
        self.heads = heads
        self.cross_modal = cross_modal
        self.loss_functions = losses
        self.relation_losses = nn.ModuleList() if relation_losses is None else relation_losses
        self.relation_weight = relation_weight
        self.frame_losses = nn.ModuleList() if frame_losses is None else frame_losses
        self.frame_loss_weight = frame_loss_weight
        self.pooling = pooling
        self.style_variation = style_variation
        # Not part of a checkpoint, as in fastreid: they come from the config.
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
        name, key = model.TEMPORAL.NAME, "MODEL.TEMPORAL.NAME"
        temporal = construct(lookup(TEMPORAL, name, key, "cfg"), name, key, cfg)
        relation_dim = getattr(temporal, "relation_dim", 0)
        head = lookup(HEADS, model.HEADS.NAME, "MODEL.HEADS.NAME")
        if not (isinstance(head, type) and issubclass(head, VideoHead)):
            raise InputError(
                f"MODEL.HEADS.NAME: {cls.__name__} needs a head for clip features; "
                f"found {model.HEADS.NAME}, expected VideoHead"
            )
        more = {"relation_dim": relation_dim} if relation_dim else {}
        heads = construct(head, model.HEADS.NAME, "MODEL.HEADS.NAME", cfg, **more)
        pooling, losses = build_pooling(cfg), build_losses(cfg)
        check_frame_level(cfg, temporal, losses)
        return {
            "backbone": backbone,
            "temporal": temporal,
            "heads": heads,
            "losses": losses,
            "relation_losses": build_losses(cfg, RELATION_LOSSES) if relation_dim else None,
            "relation_weight": model.TEMPORAL.STIG.RELATION.WEIGHT,
            "frame_losses": build_losses(cfg, model.LOSSES.FRAMES.NAME, "MODEL.LOSSES.FRAMES.NAME"),
            "frame_loss_weight": model.LOSSES.FRAMES.WEIGHT,
            "pooling": None if isinstance(pooling, MeanPooling) else pooling,
            "style_variation": (StyleVariation(cfg) if cfg.INPUT.STYLE_VARIATION.ENABLED else None),
            "pixel_mean": model.PIXEL_MEAN,
            "pixel_std": model.PIXEL_STD,
            # Last, so that the other parts start from the same draws with and without it.
            "cross_modal": (
                CrossModalAttention(cfg) if model.CROSS_MODAL_ATTENTION.ENABLED else None
            ),
        }

    @property
    def device(self) -> torch.device:
        """Return the device of the model, to which batches are moved."""
        return self.pixel_mean.device

    def forward(self, batch: dict) -> dict[str, Tensor] | Tensor:
        """Compute losses by name in training, features (B, D) in evaluation.

        Args:
            batch: ``images`` (B, T, 3, H, W), or (B, 3, H, W) for T = 1, float32 in [0, 255];
                ``modalities`` (B,), all visible when absent; in training ``targets`` (B,), all -1
                for no losses, as fastreid's PreciseBN needs statistics alone. The batch is not
                changed, and ``images`` may require a gradient.
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
        """Move a tensor to the model's device."""
        return tensor.to(self.device, non_blocking=True)

    def unpack(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Return clips (B, T, 3, H, W) in [0, 255] and modalities (B,), on the model's device."""
        images = self.moved(batch["images"])
        if images.dim() == 4:
            images = images.unsqueeze(1)
        if "modalities" in batch:
            return images, self.moved(batch["modalities"])
        return images, torch.zeros(len(images), dtype=torch.long, device=self.device)

    def clip_features(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Turn clips (B, T, 3, H, W) of modalities (B,) into features; see ``extract``."""
        return self.extract(self.stem_maps(images, modalities), images.shape[1], modalities)

    def stem_maps(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Turn clips (B, T, 3, H, W) in [0, 255] of modalities (B,) into maps (N, 64, H/4, W/4)."""
        normalized = (images - self.pixel_mean) / self.pixel_std
        if self.style_variation is not None:
            normalized = self.style_variation(normalized, modalities)
        frame_modalities = modalities.repeat_interleave(images.shape[1])
        return self.backbone.stem(normalized.flatten(0, 1), frame_modalities)

    def extract(
        self,
        maps: Tensor,
        frames: int,
        modalities: Tensor | None = None,
        first: str = STAGES[0],
        earlier: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Turn stem maps (N, 64, h, w), or the input of a later stage, into features (B, C + R).

        The maps after a stage can be changed on the way:

            stages = self.backbone.stage_maps(stem_maps, last="layer2")
            changed = ...  # from stages["layer2"]
            features = self.extract(changed, frames, modalities, "layer3", stages)

        Args:
            maps: maps of clips of ``frames`` frames.
            frames: T.
            modalities: (B,); a temporal part that only averages does not need them.
            first: name of the stage that ``maps`` enter.
            earlier: see :func:`aggregate`.

        Returns:
            (B, C + R); in training (B, T, C + R) if the head takes frames.
        """
        return aggregate(
            self.backbone,
            self.temporal,
            maps,
            frames,
            modalities,
            first,
            earlier,
            pooling=self.pooling,
            per_frame=self.training and self.heads.frame_level,
        )

    def outputs(self, features: Tensor, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """Compute the head's training outputs of features of persons (B,) in modalities (B,).

        Args:
            features: (B, C + R), or (B, T, C + R) if the head takes frames.
            targets: (B,).
            modalities: (B,).
        """
        if self.cross_modal is not None:
            appearance, relation = features.tensor_split([self.cross_modal.channels], dim=1)
            appearance = self.cross_modal(appearance, targets, modalities)
            features = torch.cat([appearance, relation], dim=1)
        return self.heads(features, targets)

    def losses(
        self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor
    ) -> dict[str, Tensor]:
        """Compute each configured loss of the head's training outputs, by name, in float32.

        Names of losses of a relation end in "_relation", those of frames in "_frames".

        Squared distances are differences of large numbers: for features of length 18 half precision
        moves them by more than the margin.
        """
        outputs = Outputs({name: output.float() for name, output in outputs.items()})
        of_relation = Outputs(
            {
                name.removeprefix(RELATION): output
                for name, output in outputs.items()
                if name.startswith(RELATION)
            }
        )
        with no_autocast(self.device):
            losses: dict[str, Tensor] = {
                key_of(loss): loss_of_batch(loss, outputs, targets, modalities)
                for loss in self.loss_functions
            }
            for loss in self.relation_losses if of_relation else ():
                value = loss_of_batch(loss, of_relation, targets, modalities)
                losses[f"{key_of(loss)}_relation"] = self.relation_weight * value
            if self.frame_losses:
                frames, *labels = frame_batch(outputs, targets, modalities)
                for loss in self.frame_losses:
                    value = loss_of_batch(loss, Outputs(frames), *labels)
                    losses[f"{key_of(loss)}_frames"] = self.frame_loss_weight * value
        return losses

    def log_outputs(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> None:
        """Log ``cls_accuracy`` and ``distance/KIND`` (see ``mean_distances``).

        The distances are between the features that the losses see. A relation adds
        ``relation_accuracy``, frames add ``frame_accuracy``.
        """
        for name, prefix in (("cls_accuracy", ""), ("relation_accuracy", RELATION)):
            logits = outputs.get(f"{prefix}pred_class_logits")
            if logits is not None:
                log_scalar(name, accuracy(logits, targets))
        if f"{FRAME}pred_class_logits" in outputs:
            frames, frame_targets, _ = frame_batch(outputs, targets, modalities)
            log_scalar("frame_accuracy", accuracy(frames["pred_class_logits"], frame_targets))
        for kind, distance in mean_distances(outputs["features"], targets, modalities).items():
            log_scalar(f"distance/{kind}", distance)
