"""Attacks on triplets of a training batch, whose clips move together.

An attack of the ATTACK registry treats each row by itself, so that it can test a model; these do
not, and are for training alone. Legend: B clips in the batch, N triplets, D feature length; a, p, n
the features of a triplet's anchor, positive and negative; H its hardness, d(a, p) - d(a, n).
"""

import copy
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.utils import comm
from torch import Tensor

from plugins.attacks import Guides, Recipe, ThreatModel
from plugins.attacks.attack import select_clips
from plugins.attacks.guides import compared
from plugins.defense.triplets import distance, hardness, mirrored_triplets, softhard_triplets
from plugins.errors import InputError
from plugins.modeling.losses.functional import pairwise_distances
from plugins.utils.random import item_generator


class TripletAttack:
    """What attacks on triplets share: a clip climbs the objective of the triplets that move it.

    They start from the clean images, so that a triplet that needs no attack stays as it is.

    Attributes:
        clean_anchor: the anchor is not attacked.
        threat: what may be changed.
        recipe: how the objective is climbed.
        seed: of the draw.
        margin: gamma of the triplet loss that is trained on these triplets.
        triplets: (N, 3) places in the batch of anchor, positive and negative, once aimed.
    """

    clean_anchor: ClassVar[bool]
    triplets: Tensor | None = None

    def __init__(self, cfg: CfgNode) -> None:
        """Read ATTACK and DEFENSE.TRIPLET; the crafter sets budget, recipe and seed.

        Raises:
            InputError: the margin is negative, or ATTACK asks for what there is not.
        """
        self.threat, self.recipe, self.seed = ThreatModel.from_config(cfg), Recipe(), 0
        self.margin = cfg.DEFENSE.TRIPLET.MARGIN
        if not self.margin >= 0:
            raise InputError(f"DEFENSE.TRIPLET.MARGIN: {self.margin}; expected 0 or more")

    def draw(self, guides: Guides) -> Tensor:
        """Triplets (N, 3) of the guides' rows."""
        raise NotImplementedError

    def objective(self, anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Of features (N, D) each the values (N,) to maximise; 0, the highest, ends an attack."""
        raise NotImplementedError

    def aimed(self, guides: Guides) -> "TripletAttack":
        """The attack on triplets of these rows."""
        attack = copy.copy(self)
        attack.triplets = self.draw(guides).to(guides.clean.device)
        return attack

    def score(
        self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides
    ) -> Callable[..., tuple[Tensor, Tensor]]:
        """What ``maximise`` climbs; a clip's margin is above 0 once nothing is left to be done.

        Args:
            features_of: batch to features (B, D), differentiable in the images, of each clip alone.
            batch: ``images`` (B, T, 3, H, W) or (B, 3, H, W); each clip is a row.
            guides: with the clean features (B, D).
        """
        shape = batch["images"].shape
        moved = self.triplets[:, 1:] if self.clean_anchor else self.triplets
        members, each = moved.flatten(), moved.shape[1]

        def score(images: Tensor, left: Tensor | None = None) -> tuple[Tensor, Tensor]:
            some = {**batch, "images": images.view(shape)}
            if left is None:
                left = torch.ones(len(images), dtype=torch.bool, device=images.device)
            # Clips that are done share no triplet with those that are left.
            found = features_of(select_clips(some, left))
            features = guides.clean.index_put((left.to(found.device),), found)
            features = compared(features, guides.metric)
            values = self.objective(*features[self.triplets].unbind(dim=1))
            objective = (0 * features[:, 0]).index_add(0, members, values.repeat_interleave(each))
            # No objective is above 0, so a sum of 0 says that none of the triplets is below.
            margin = (objective.detach() == 0).to(objective)
            return tuple(value.to(images.device)[left] for value in (objective, margin))

        return score


class AntiCollapse(TripletAttack):
    """ACT: positive and negative are moved onto each other, which a clean anchor must undo.

    Zhou et al., "Adversarial Attack and Defense in Deep Ranking", arXiv 2106.03614: minimise
    d(p~, n~), then train on L_T(a, p~, n~). They attack two copies of the batch; that each clip is
    attacked once, as positive and as negative of two mirrored triplets, is ours.
    """

    clean_anchor = True

    def draw(self, guides: Guides) -> Tensor:
        """Pairs of two people's clips, both ways round, with a drawn anchor each."""
        return mirrored_triplets(guides.pids, item_generator(self.seed))

    def objective(self, anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """-d(p~, n~)."""
        return -distance(positives, negatives)


class HardnessManipulation(TripletAttack):
    """HM: all three move until the triplet is as hard as its destination says, and stop there.

    Zhou and Patel, "Enhancing Adversarial Robustness for Deep Metric Learning", CVPR 2022, section
    3.1: minimise max(0, H_D - H)^2, with H_D by the linear gradual adversary, HM[S, g_LGA]. They
    attack three copies of the batch, one for each part in a triplet.

    Attributes:
        gradual: says H_D; shared by all copies.
    """

    clean_anchor = False

    def __init__(self, cfg: CfgNode) -> None:
        """See :class:`TripletAttack`."""
        super().__init__(cfg)
        self.gradual = GradualAdversary(self.margin)

    def draw(self, guides: Guides) -> Tensor:
        """Soft-hard triplets by the clean features, each clip in one at most."""
        features = compared(guides.clean, guides.metric)
        between = pairwise_distances(features, features)
        return softhard_triplets(between, guides.pids, item_generator(self.seed))

    def objective(self, anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """-max(0, H_D - H)^2."""
        short = self.gradual.destination - hardness(anchors, positives, negatives)
        return -short.relu().square()


class GradualAdversary:
    """LGA: the destination follows the training loss, weak at first and stronger as it falls.

    H_D = -gamma min(u, l) / u with u = gamma, within [-gamma, 0]; l is L_T on the attacked triplets
    of the iteration before, and gamma before the first (Zhou and Patel, CVPR 2022, section 3.2;
    that l has no part of the other losses, and is the mean of the ranks, is ours).
    """

    def __init__(self, margin: float) -> None:
        """Start at the weakest destination, -gamma."""
        self.margin = self.loss = margin

    @property
    def destination(self) -> float:
        """H_D, feature units."""
        return -min(self.margin, self.loss)

    def observe(self, loss: float) -> None:
        """Take in L_T of an iteration; every rank must call this."""
        self.loss = float(np.mean(comm.all_gather(loss)))

    def state_dict(self) -> dict:
        """The last loss."""
        return {"loss": self.loss}

    def load_state_dict(self, state: dict) -> None:
        """Restore the last loss."""
        self.loss = state["loss"]


TRIPLET_ATTACKS = {attack.__name__: attack for attack in (AntiCollapse, HardnessManipulation)}
