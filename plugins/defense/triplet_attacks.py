"""Attacks on triplets of a training batch, whose clips move together.

An attack of the ATTACK registry treats each row by itself, so that it can test a model; these do
not, and are for training alone. Legend: B clips in the batch, N triplets, D feature length; a, p, n
the features of a triplet's anchor, positive and negative; H its hardness, d(a, p) - d(a, n).
"""

import copy
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from fastreid.config import CfgNode
from fastreid.utils import comm
from torch import Tensor

from plugins.attacks import Attack, Guides, Recipe, ThreatModel
from plugins.attacks.features import FeaturesOf
from plugins.attacks.guides import compared
from plugins.defense.triplets import distance, hardness, mirrored_triplets, softhard_triplets
from plugins.modeling.losses.functional import pairwise_distances
from plugins.utils.random import item_generator


class TripletAttack(Attack):
    """Maximize the objective of the triplets that move a clip.

    The attack starts from the clean images, so that a triplet that needs no attack stays as it is.

    Attributes:
        clean_anchor: whether the anchor is not attacked.
        margin_of_loss: gamma of the triplet loss that is trained on these triplets.
        triplets: (N, 3) indices in the batch of anchor, positive and negative, once prepared.
    """

    joint = True
    images_only = True
    clean_anchor: ClassVar[bool]
    triplets: Tensor | None = None

    def __init__(self, cfg: CfgNode) -> None:
        """Read ATTACK and DEFENSE.TRIPLET; the crafter sets budget, recipe and seed."""
        super().__init__(ThreatModel.from_config(cfg), Recipe())
        self.margin_of_loss = cfg.DEFENSE.TRIPLET.MARGIN

    def draw_triplets(self, guides: Guides) -> Tensor:
        """Draw triplets (N, 3) of the guides' rows."""
        raise NotImplementedError

    def triplet_objective(self, anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return the values (N,) to maximize, of features (N, D) each; 0 is the highest."""
        raise NotImplementedError

    def prepare(
        self, features_of: FeaturesOf, batches: Iterable[tuple[dict, Guides]]
    ) -> "TripletAttack":
        """Return the attack on triplets of the one batch."""
        ((_, guides),) = batches
        attack = copy.copy(self)
        attack.triplets = self.draw_triplets(guides).to(guides.clean.device)
        return attack

    def objective(self, features: Tensor, guides: Guides) -> Tensor:
        """Add up, for each clip, the objective of the triplets that move it.

        Args:
            features: (B, D) of all clips, because a clip's triplets include other clips.
            guides: of the whole batch.
        """
        assert self.triplets is not None, "an attack on triplets is prepared before it runs"
        moved = self.triplets[:, 1:] if self.clean_anchor else self.triplets
        members, number = moved.flatten(), moved.shape[1]
        features = compared(features, guides.metric)
        values = self.triplet_objective(*features[self.triplets].unbind(dim=1))
        return (0 * features[:, 0]).index_add(0, members, values.repeat_interleave(number))

    def margin(self, objective: Tensor, features: Tensor, guides: Guides) -> Tensor:
        """Return 1 for a clip whose triplets all have the highest objective, else 0."""
        # No objective is above 0, so a sum of 0 says that none of the triplets is below.
        return (objective == 0).to(objective)


class AntiCollapse(TripletAttack):
    """ACT: move positive and negative onto each other, which a clean anchor must undo.

    Zhou et al., "Adversarial Attack and Defense in Deep Ranking", arXiv 2106.03614: minimize
    d(p~, n~), then train on L_T(a, p~, n~). The paper attacks two copies of the batch; here each
    clip is attacked once, as positive and as negative of two mirrored triplets.
    """

    clean_anchor = True

    def draw_triplets(self, guides: Guides) -> Tensor:
        """Draw pairs of two people's clips, in both orders, with a random anchor each."""
        return mirrored_triplets(guides.pids, item_generator(self.seed))

    def triplet_objective(self, anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return -d(p~, n~)."""
        return -distance(positives, negatives)


class HardnessManipulation(TripletAttack):
    """HM: move all three until the triplet is as hard as its destination, and stop there.

    Zhou and Patel, "Enhancing Adversarial Robustness for Deep Metric Learning", CVPR 2022, section
    3.1: minimize max(0, H_D - H)^2, with H_D by the linear gradual adversary, HM[S, g_LGA]. The
    paper attacks three copies of the batch, one for each part of a triplet.

    Attributes:
        gradual: gives H_D; shared by all copies of the attack.
    """

    clean_anchor = False

    def __init__(self, cfg: CfgNode) -> None:
        """See :class:`TripletAttack`."""
        super().__init__(cfg)
        self.gradual = GradualAdversary(self.margin_of_loss)

    def draw_triplets(self, guides: Guides) -> Tensor:
        """Draw soft-hard triplets by the clean features, each clip in one at most."""
        features = compared(guides.clean, guides.metric)
        between = pairwise_distances(features, features)
        return softhard_triplets(between, guides.pids, item_generator(self.seed))

    def triplet_objective(self, anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return -max(0, H_D - H)^2."""
        short = self.gradual.destination - hardness(anchors, positives, negatives)
        return -short.relu().square()


class GradualAdversary:
    """LGA: let the destination follow the training loss, from weak to strong as the loss falls.

    H_D = -gamma min(u, l) / u with u = gamma, within [-gamma, 0]; l is L_T on the attacked triplets
    of the iteration before, and gamma before the first (Zhou and Patel, CVPR 2022, section 3.2).
    Here l excludes the other losses and is the mean over the ranks.
    """

    def __init__(self, margin: float) -> None:
        """Start at the weakest destination, -gamma."""
        self.margin = self.loss = margin

    @property
    def destination(self) -> float:
        """H_D, in feature units."""
        return -min(self.margin, self.loss)

    def observe(self, loss: float) -> None:
        """Take in L_T of an iteration; every rank must call this."""
        self.loss = float(np.mean(comm.all_gather(loss)))

    def state_dict(self) -> dict:
        """Return the last loss."""
        return {"loss": self.loss}

    def load_state_dict(self, state: dict) -> None:
        """Restore the last loss."""
        self.loss = state["loss"]


TRIPLET_ATTACKS = {attack.__name__: attack for attack in (AntiCollapse, HardnessManipulation)}
