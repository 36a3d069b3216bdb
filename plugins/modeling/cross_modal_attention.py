"""Optional cross-modal attention of SADSTRM: a clip attends to its person in the other modality.

This package's design. It reads person labels, so it works in training only: its effect has to reach
the test feature through the weights of the network. It works on clip features, not on frames: a
TEMPORAL part returns one feature per clip, and a person has several clips to attend to.
"""

from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.modeling.losses.functional import masked_softmax
from plugins.modeling.precision import no_autocast


class CrossModalAttention(nn.Module):
    """f + W sum_j a_j v_j over the clips j of the same person in the other modality.

    a = softmax over j of q . k_j / sqrt(dim), with q of the clip, k and v of the others. W starts
    at 0: at initialization nothing changes.

    Args:
        channels: C, length of a clip's feature.
        dim: length of queries, keys and values.
    """

    @configurable
    def __init__(self, *, channels: int, dim: int):
        super().__init__()
        self.channels = channels
        # Without biases a clip that has no partner does not change.
        self.query = nn.Linear(channels, dim, bias=False)
        self.key = nn.Linear(channels, dim, bias=False)
        self.value = nn.Linear(channels, dim, bias=False)
        self.residual = nn.Linear(dim, channels, bias=False)
        nn.init.zeros_(self.residual.weight)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.CROSS_MODAL_ATTENTION`` and the trunk's channels."""
        return {
            "channels": cfg.MODEL.BACKBONE.FEAT_DIM,
            "dim": cfg.MODEL.CROSS_MODAL_ATTENTION.DIM,
        }

    def forward(self, features: Tensor, targets: Tensor, modalities: Tensor) -> Tensor:
        """Relate features (B, C) of persons (B,) in modalities (B,); same shape, float32."""
        partner = (targets[:, None] == targets) & (modalities[:, None] != modalities)
        with no_autocast(features.device):
            features = features.float()
            query, key, value = self.query(features), self.key(features), self.value(features)
            weights = masked_softmax(query @ key.T / key.shape[1] ** 0.5, partner)  # (B, B)
            return features + self.residual(weights @ value)
