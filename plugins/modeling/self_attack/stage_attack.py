"""What the kinds share that attack the maps after a stage of the trunk, with what the batch holds.

Legend: B clips of T frames, N = B * T; C channels of h x w maps.
"""

import logging

import torch
from fastreid.config import CfgNode, configurable
from torch import Tensor

from plugins.errors import InputError
from plugins.modeling.losses.functional import reversed_triplet
from plugins.modeling.self_attack.base import CleanPass, FeatureAttack, Losses
from plugins.modeling.self_attack.partners import partner_candidates

logger = logging.getLogger(__name__)


class StageAttack(FeatureAttack):
    """An attack on the maps after layer1, layer2 or layer3, which both modalities share.

    The stems are not shared: channel k of one need not mean what channel k of the other does. Nor
    is there anything to train: what attacks is in the batch.

    Args:
        kind: as MODEL.SELF_ATTACK.KIND has it, for messages.
        eps: the budget; its unit is the kind's own.
        after: the stage.
        margin: m of L_rev, feature units.
        partner: see ``partner_candidates``; a kind without partners does not read it.
        partner_modality: likewise.

    Attributes:
        largest_eps: of the kind.
        other_camera: partners are of another camera.
    """

    normalization = "clean"
    largest_eps = float("inf")
    other_camera = False

    @configurable
    def __init__(
        self,
        *,
        kind: str,
        eps: float,
        after: str,
        margin: float,
        partner: str,
        partner_modality: str,
    ):
        super().__init__()
        if eps > self.largest_eps:
            raise InputError(
                f"MODEL.SELF_ATTACK.EPS: {eps}; of KIND {kind} it is a share, expected at most "
                f"{self.largest_eps:g}"
            )
        self.eps = eps
        self.after = after
        self.margin = margin
        self.partner = partner
        self.partner_modality = partner_modality
        self.warned = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.SELF_ATTACK``."""
        settings = cfg.MODEL.SELF_ATTACK
        return {
            "kind": settings.KIND,
            "eps": settings.EPS,
            "after": settings.AFTER,
            "margin": settings.MARGIN,
            "partner": settings.PARTNER,
            "partner_modality": settings.PARTNER_MODALITY,
        }

    def forward(
        self, clean: CleanPass, losses: Losses, generator: torch.Generator | None = None
    ) -> Tensor:
        """The attacked maps (N, C, h, w).

        Args:
            clean: the batch.
            losses: L_A; a kind without a gradient does not call it.
            generator: source of the draws; torch's own, seeded by ``SEED``, when not given.

        Returns:
            Same shape and type as ``clean.maps``; a clip that cannot be attacked is as it was.
        """
        raise NotImplementedError

    def attacked_maps(self, clean: CleanPass, losses: Losses) -> Tensor:
        """See FeatureAttack; the gradient is that of the module's output."""
        return self(clean, losses)

    def reid_losses(
        self, outputs: dict[str, Tensor], guides: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """L_rev, which is what the kinds with a gradient go down."""
        return {"loss_rev": reversed_triplet(outputs["features"], guides, targets, self.margin)}

    def candidates(self, clean: CleanPass) -> Tensor:
        """The clips that may be a clip's partner, (B, B) bool; warns once where nobody has one."""
        candidates = partner_candidates(
            clean.labels, self.partner, self.partner_modality, self.other_camera
        )
        if not self.warned and not candidates.any():
            self.warned = True
            logger.warning(
                "MODEL.SELF_ATTACK.PARTNER %s, PARTNER_MODALITY %s: in a batch no clip has a "
                "partner%s, so none is attacked; 'self_attack/attacked_clips' tells how often",
                self.partner,
                self.partner_modality,
                " of another camera" if self.other_camera else "",
            )
        return candidates


def map_gradient(maps: Tensor, losses: Losses) -> Tensor:
    """Gradient of the sum of the losses at maps (N, C, h, w), same shape, float32."""
    point = maps.detach().float().requires_grad_(True)
    # In float32: half precision rounds gradients this small to 0.
    with torch.enable_grad(), torch.autocast(maps.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(sum(losses(point).values()), point)
    return gradient
