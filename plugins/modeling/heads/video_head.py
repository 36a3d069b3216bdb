"""fastreid's embedding head for features that are already pooled over space and time.

Legend: B clips, C length of the appearance, R of the relation behind it in a clip's feature (0
without one), D of the test feature.
"""

import copy

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode, configurable
from fastreid.modeling.heads import EmbeddingHead
from torch import Tensor, nn

from plugins.registry import HEADS

# Begins the names of the relation's training outputs.
RELATION = "relation_"


class RelationHead(EmbeddingHead):
    """BNNeck and classifier of the relation; the settings are those of the head around it.

    Args:
        channels: C; above 0 the relation is added to the appearance, by a projection that starts at
            0. It reads the relation after the BNNeck, whose mean is 0: what it adds has no offset.
        **embedding: the arguments of EmbeddingHead.
    """

    @configurable
    def __init__(self, *, channels: int = 0, **embedding):
        super().__init__(**embedding)
        self.added = nn.Linear(embedding["feat_dim"], channels, bias=False) if channels else None
        if channels:
            nn.init.zeros_(self.added.weight)

    def embed(self, relation: Tensor) -> Tensor:
        """A relation (B, R) after the BNNeck, same shape."""
        return self.bottleneck(relation[..., None, None])[..., 0, 0]

    def classify(self, neck: Tensor, relation: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Training outputs of a relation (B, R), after and before the BNNeck, by their names."""
        weight = self.weight
        plain = type(self.cls_layer).__name__ == "Linear"
        logits = F.linear(neck, weight) if plain else F.linear(*map(F.normalize, (neck, weight)))
        outputs = {
            "cls_outputs": self.cls_layer(logits.clone(), targets),
            "pred_class_logits": logits * self.cls_layer.s,
            "features": relation if self.neck_feat == "before" else neck,
        }
        return {RELATION + name: output for name, output in outputs.items()}


@HEADS.register()
class VideoHead(EmbeddingHead):
    """BNNeck and classifier of fastreid's EmbeddingHead, fed with clip features.

    Training returns its dict (``cls_outputs``, ``pred_class_logits``, ``features``: before or after
    the BNNeck, as ``MODEL.HEADS.NECK_FEAT`` says); evaluation returns the L2-normalised feature
    after the BNNeck. ``MODEL.HEADS.POOL_LAYER`` is not read: features come pooled.

    Where the clip's feature ends in a relation, that has a BNNeck and a classifier of its own,
    whose training outputs have names that begin with ``relation_``. In the test feature the two
    are concatenated after their BNNecks, so that each weighs as many channels as it has, or the
    relation is added to the appearance.

    Args:
        relation_dim: R; 0: no relation.
        join: "concatenate" or "add".
        test_feature: "fused", "appearance" or "relation".
        **embedding: the arguments of EmbeddingHead.
    """

    @configurable
    def __init__(
        self,
        *,
        relation_dim: int = 0,
        join: str = "concatenate",
        test_feature: str = "fused",
        **embedding,
    ):
        super().__init__(**embedding)
        self.relation_dim = relation_dim
        self.test_feature = test_feature
        self.relation = None
        if relation_dim:
            of_relation = {**embedding, "feat_dim": relation_dim, "embedding_dim": 0}
            channels = embedding["feat_dim"] if join == "add" else 0
            self.relation = RelationHead(channels=channels, **of_relation)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """EmbeddingHead's settings, without its pooling, and how a relation joins."""
        return {
            **super().from_config(cfg),
            "pool_type": "Identity",
            "join": cfg.MODEL.TEMPORAL.STIG.RELATION.JOIN,
            "test_feature": cfg.TEST.FEATURE,
        }

    def forward(
        self, features: Tensor, targets: Tensor | None = None
    ) -> dict[str, Tensor] | Tensor:
        """Classify or embed.

        Args:
            features: (B, C + R), pooled over space and time.
            targets: (B,) person labels, for the margin-based classifiers in training.

        Returns:
            In training the dict above, (B, classes) and (B, C or R); else (B, D). All float32.
        """
        # The margin classifiers take an arc cosine, which half precision turns into NaN.
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            if self.relation is None:
                outputs = super().forward(features[..., None, None], targets)
                return outputs if self.training else F.normalize(outputs)
            appearance, relation = features.tensor_split([-self.relation_dim], dim=1)
            neck = self.relation.embed(relation)
            if self.training:
                joined = self.joined(appearance, neck)
                outputs = super().forward(joined[..., None, None], targets)
                return outputs | self.relation.classify(neck, relation, targets)
            return F.normalize(self.compared(appearance, neck))

    def joined(self, appearance: Tensor, neck: Tensor) -> Tensor:
        """The appearance (B, C) with the relation (B, R) added to it, if that is how they join."""
        added = self.relation.added
        return appearance if added is None else appearance + added(neck)

    def compared(self, appearance: Tensor, neck: Tensor) -> Tensor:
        """The test feature (B, D), of any length, of appearance (B, C) and relation (B, R)."""
        if self.test_feature == "relation":
            return neck
        if self.test_feature == "fused":
            appearance = self.joined(appearance, neck)
        embedded = super().forward(appearance[..., None, None])
        if self.test_feature == "fused" and self.relation.added is None:
            return torch.cat([embedded, neck], dim=1)
        return embedded

    def without_classifier(self) -> "VideoHead":
        """A head for evaluation that shares this one's parts and has no classifier."""
        head = sharing_copy(self)
        if self.relation is not None:
            head.relation = sharing_copy(self.relation)
        return head


def sharing_copy(head: EmbeddingHead) -> EmbeddingHead:
    """The same submodules in a module without the classifier's weight."""
    twin = copy.copy(head)
    twin._modules = dict(head._modules)
    twin._parameters = {name: p for name, p in head._parameters.items() if name != "weight"}
    return twin
