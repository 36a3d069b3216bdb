"""Base class of the kinds that attack the maps after a stage by other clips of the batch.

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

    The stems are not shared: channel k of one need not mean what channel k of the other means.
    Nothing is trained here, because the attack uses what the batch holds.

    Args:
        kind: the value of MODEL.SELF_ATTACK.KIND, for messages.
        eps: the budget, whose unit depends on the kind.
        after: the stage.
        margin: m of L_rev, feature units.
        partner: see ``partner_candidates``; a kind without partners does not read it.
        partner_modality: likewise.

    Attributes:
        largest_eps: the kind's largest budget.
        other_camera: only clips of another camera may be partners.

    Raises:
        InputError: ``eps`` is above the largest.
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
                f"MODEL.SELF_ATTACK.EPS: {eps}; KIND {kind} takes a share, expected at most "
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
        """Attack the maps of a batch.

        Args:
            clean: the batch.
            losses: L_A; only kinds that need a gradient call it.
            generator: source of the draws; None for torch's global one, seeded by ``SEED``.

        Returns:
            (N, C, h, w) of the type of ``clean.maps``; a clip that cannot be attacked is unchanged.
        """
        raise NotImplementedError

    def attacked_maps(self, clean: CleanPass, losses: Losses) -> Tensor:
        """Return the module's output with its gradient."""
        return self(clean, losses)

    def reid_losses(
        self, outputs: dict[str, Tensor], guides: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return L_rev, which the kinds that need a gradient descend."""
        return {"loss_rev": reversed_triplet(outputs["features"], guides, targets, self.margin)}

    def candidates(self, clean: CleanPass) -> Tensor:
        """Tell which clips may be partners, (B, B) bool; warn once if no clip has one."""
        candidates = partner_candidates(
            clean.labels, self.partner, self.partner_modality, self.other_camera
        )
        if not self.warned and not candidates.any():
            self.warned = True
            logger.warning(
                "MODEL.SELF_ATTACK.PARTNER %s, PARTNER_MODALITY %s: no clip of a batch has a "
                "partner%s, so none is attacked; self_attack/attacked_clips tells how often",
                self.partner,
                self.partner_modality,
                " of another camera" if self.other_camera else "",
            )
        return candidates
