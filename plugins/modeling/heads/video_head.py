"""Heads of fastreid's kind for features that are already pooled over space and time.

Legend: B clips of T frames, C length of the appearance, R of the relation behind it in a clip's
feature (0 without one), D of the test feature.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode, configurable
from fastreid.modeling.heads import EmbeddingHead
from torch import Tensor, nn

from plugins.modeling.precision import no_autocast
from plugins.registry import HEADS

# Prefixes of the names of the relation's and of the frames' training outputs.
RELATION = "relation_"
FRAME = "frame_"


def training_outputs(
    head: EmbeddingHead, weight: Tensor, before: Tensor, after: Tensor, targets: Tensor
) -> dict[str, Tensor]:
    """Classify features as fastreid's EmbeddingHead does, by any classifier weights.

    Args:
        head: decides the kind of classifier and the side of the BNNeck.
        weight: (classes, D) of the classifier.
        before: (N, C) features before the BNNeck.
        after: (N, D) features after the BNNeck.
        targets: (N,) person labels.

    Returns:
        ``cls_outputs`` and ``pred_class_logits`` (N, classes), ``features`` (N, C or D).
    """
    plain = type(head.cls_layer).__name__ == "Linear"
    logits = F.linear(after, weight) if plain else F.linear(*map(F.normalize, (after, weight)))
    return {
        # The margin classifiers change their input.
        "cls_outputs": head.cls_layer(logits.clone(), targets),
        "pred_class_logits": logits * head.cls_layer.s,
        "features": before if head.neck_feat == "before" else after,
    }


class RelationHead(EmbeddingHead):
    """BNNeck and classifier of the relation; the settings are those of the head around it.

    Args:
        channels: C; above 0 the relation is added to the appearance, by a projection that starts at
            0. It reads the relation after the BNNeck, whose mean is 0, so it adds no offset.
        **embedding: the arguments of EmbeddingHead.
    """

    @configurable
    def __init__(self, *, channels: int = 0, **embedding: Any):
        super().__init__(**embedding)
        self.added: nn.Linear | None = None
        if channels:
            self.added = nn.Linear(embedding["feat_dim"], channels, bias=False)
            nn.init.zeros_(self.added.weight)

    def embed(self, relation: Tensor) -> Tensor:
        """Send a relation (B, R) through the BNNeck; same shape."""
        return self.bottleneck(relation[..., None, None])[..., 0, 0]

    def classify(self, neck: Tensor, relation: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compute the training outputs of a relation (B, R), after and before the BNNeck."""
        outputs = training_outputs(self, self.weight, relation, neck, targets)
        return {RELATION + name: output for name, output in outputs.items()}


@HEADS.register()
class VideoHead(EmbeddingHead):
    """BNNeck and classifier of fastreid's EmbeddingHead, fed with clip features.

    Training returns EmbeddingHead's dict (``cls_outputs``, ``pred_class_logits``, ``features``:
    before or after the BNNeck, as ``MODEL.HEADS.NECK_FEAT`` says); evaluation returns the
    L2-normalized feature after the BNNeck. ``MODEL.HEADS.POOL_LAYER`` is not read: features come
    pooled.

    If the clip's feature ends in a relation, the relation has another BNNeck and classifier, whose
    training outputs have names that begin with ``relation_``. In the test feature the two are
    concatenated after their BNNecks, so that each weighs as many channels as it has, or the
    relation is added to the appearance.

    With ``frame_level`` the BNNeck takes its statistics from frames in training, and a clip's
    feature after it is the mean of its frames' (Liang et al., M3-ReID, TIFS 2025). The outputs then
    include those of the frames, under names that begin with ``frame_``. In evaluation the BNNeck is
    linear, so its mean over the frames equals its output for their mean.

    Args:
        relation_dim: R; 0: no relation.
        join: "concatenate" or "add".
        test_feature: "fused", "appearance" or "relation".
        frame_level: whether the input in training is features of frames.
        frame_classifier: whether frames have another classifier.
        **embedding: the arguments of EmbeddingHead.
    """

    @configurable
    def __init__(
        self,
        *,
        relation_dim: int = 0,
        join: str = "concatenate",
        test_feature: str = "fused",
        frame_level: bool = False,
        frame_classifier: bool = False,
        **embedding: Any,
    ):
        super().__init__(**embedding)
        self.frame_level = frame_level
        self.relation_dim = relation_dim
        self.test_feature = test_feature
        self.relation: RelationHead | None = None
        if relation_dim:
            of_relation = {**embedding, "feat_dim": relation_dim, "embedding_dim": 0}
            channels = embedding["feat_dim"] if join == "add" else 0
            self.relation = RelationHead(channels=channels, **of_relation)
        self.frame_weight = None
        if frame_classifier:
            self.frame_weight = nn.Parameter(torch.empty_like(self.weight))
            nn.init.normal_(self.frame_weight, std=0.01)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read EmbeddingHead's settings without its pooling, and those of relation and frames."""
        return {
            **super().from_config(cfg),
            "pool_type": "Identity",
            "join": cfg.MODEL.TEMPORAL.STIG.RELATION.JOIN,
            "test_feature": cfg.TEST.FEATURE,
            "frame_level": cfg.MODEL.HEADS.NECK_LEVEL == "frame",
            "frame_classifier": bool(cfg.MODEL.LOSSES.FRAMES.NAME),
        }

    def forward(
        self, features: Tensor, targets: Tensor | None = None
    ) -> dict[str, Tensor] | Tensor:
        """Classify or embed.

        Args:
            features: (B, C + R), pooled over space and time; in training (B, T, C + R), pooled over
                space alone, if ``frame_level``.
            targets: (B,) person labels in training, for the margin-based classifiers.

        Returns:
            In training the dict above, (B, classes) and (B, C or R); else (B, D). All float32.
        """
        # The margin classifiers take an arc cosine, which half precision turns into NaN.
        with no_autocast(features.device):
            features = features.float()
            if features.dim() == 3:
                assert targets is not None, "frames are classified in training only"
                return self.classify_frames(features, targets)
            if self.relation is None:
                outputs = super().forward(features[..., None, None], targets)
                return outputs if self.training else F.normalize(outputs)
            appearance, relation = features.tensor_split([-self.relation_dim], dim=1)
            neck = self.relation.embed(relation)
            if self.training:
                assert targets is not None, "training needs the labels"
                joined = self.joined(appearance, neck)
                outputs = super().forward(joined[..., None, None], targets)
                return outputs | self.relation.classify(neck, relation, targets)
            return F.normalize(self.compared(appearance, neck))

    def classify_frames(self, frames: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compute the training outputs of clips from vectors of their frames (B, T, C + R).

        Returns:
            The outputs of the clips, and ``frame_features`` (B, T, C or D); with a classifier of
            frames ``frame_cls_outputs`` and ``frame_pred_class_logits`` (B, T, classes).
        """
        outputs = {}
        if self.relation is not None:
            frames, relations = frames.tensor_split([-self.relation_dim], dim=2)
            relation = relations.mean(dim=1)
            neck = self.relation.embed(relation)
            outputs = self.relation.classify(neck, relation, targets)
            frames = self.joined(frames, neck[:, None])
        clips, count = frames.shape[:2]
        before = frames.flatten(0, 1)
        after = self.bottleneck(before[..., None, None])[..., 0, 0]
        means = frames.mean(dim=1), after.unflatten(0, (clips, count)).mean(dim=1)
        outputs |= training_outputs(self, self.weight, *means, targets)
        if self.frame_weight is None:
            of_frames = {"features": before if self.neck_feat == "before" else after}
        else:
            frame_targets = targets.repeat_interleave(count)
            of_frames = training_outputs(self, self.frame_weight, before, after, frame_targets)
        return outputs | {
            FRAME + name: output.unflatten(0, (clips, count)) for name, output in of_frames.items()
        }

    def joined(self, appearance: Tensor, neck: Tensor) -> Tensor:
        """Add the relation (..., R) to the appearance (..., C), if that is how they join."""
        assert self.relation is not None
        added = self.relation.added
        return appearance if added is None else appearance + added(neck)

    def compared(self, appearance: Tensor, neck: Tensor) -> Tensor:
        """Join appearance (B, C) and relation (B, R) to the test feature (B, D), of any length."""
        assert self.relation is not None
        if self.test_feature == "relation":
            return neck
        if self.test_feature == "fused":
            appearance = self.joined(appearance, neck)
        embedded = super().forward(appearance[..., None, None])
        if self.test_feature == "fused" and self.relation.added is None:
            return torch.cat([embedded, neck], dim=1)
        return embedded

    def without_classifier(self) -> "VideoHead":
        """Return a head for evaluation that shares this head's parts and has no classifier."""
        head = sharing_copy(self)
        if self.relation is not None:
            head.relation = sharing_copy(self.relation)
        return head


def sharing_copy(head: EmbeddingHead) -> EmbeddingHead:
    """Return the same submodules in a module without the classifiers' weights."""
    twin = copy.copy(head)
    twin._modules = dict(head._modules)
    classifiers = ("weight", "frame_weight")
    twin._parameters = {name: p for name, p in head._parameters.items() if name not in classifiers}
    return twin
