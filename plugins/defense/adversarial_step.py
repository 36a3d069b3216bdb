"""Metric adversarial training: one iteration on a batch and on its attacked twin.

Legend: B clips in the batch, D feature length.
"""

import contextlib
from collections.abc import Iterator

import torch
from fastreid.config import CfgNode
from fastreid.utils import comm
from torch import Tensor, nn
from torch.optim import Optimizer

from plugins.attacks.draws import joint_seed
from plugins.attacks.guides import compared
from plugins.defense.crafting import Crafter, strength
from plugins.engine.steps import Step
from plugins.errors import InputError
from plugins.modeling.meta_arch.vvi_baseline import log_scalar
from plugins.registry import STEP

WEIGHTS = ("CLEAN_WEIGHT", "ATTACKED_WEIGHT", "DISTANCE_WEIGHT")


@STEP.register()
class AdversarialStep(Step):
    """Trains on clean batches, attacked ones, and the distance of their features.

    For any meta-architecture: of ``model(batch)`` it takes the losses by name. With DEFENSE.INNER

    - SMA: GOAT(0, 0), Bouniot et al., CVPRW 2020; GOAT: their guided form;
    - FNA: what DDDefense (arXiv 2511.09933) calls metric adversarial training;
    - SMA with DISTANCE_WEIGHT beta and no ATTACKED_WEIGHT: TRADES (Zhang et al., ICML 2019), L(x) +
      beta max_d |f(x + d) - f(x)|^2.

    A subclass changes ``craft``, ``losses`` or ``update``. Only the deployed network is attacked,
    so the adversary of SADSTRM rests in this step.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module, data_loader, optimizer: Optimizer) -> None:
        """See :class:`Step`.

        Raises:
            InputError: from ``Crafter``; a weight is negative, or all are 0.
        """
        super().__init__(cfg, model, data_loader, optimizer)
        self.clean_weight, self.attacked_weight, self.distance_weight = loss_weights(cfg)
        self.crafter = Crafter(model, cfg)
        if self.distance_weight and not isinstance(getattr(model, "heads", None), nn.Module):
            raise InputError(
                f"DEFENSE.DISTANCE_WEIGHT: {self.distance_weight}; {type(model).__name__} has not "
                "one head whose features could be compared; expected 0"
            )

    def run_step(self) -> None:
        """Craft, forward, backward, update."""
        batches, data_time = self.next_batches()
        pairs = [(batch, self.craft(batch, place)) for place, batch in enumerate(batches)]
        losses = self.backward(pairs, self.optimizer)
        self.write_metrics(losses, data_time)
        self.update()

    def craft(self, batch: dict, place: int = 0) -> dict:
        """The attacked batch to train on.

        Its draws follow from (SEED, rank, iteration, place), so that a resumed run repeats them;
        the global random states are left alone.

        Args:
            batch: from the loader; it is not changed.
            place: of the batch among those of one update.
        """
        if not (self.attacked_weight or self.distance_weight):
            return batch
        seed = joint_seed(max(self.cfg.SEED, 0), comm.get_rank(), self.iter, place)
        attacked = self.crafter(batch, self.epoch, seed)
        eps = strength(self.epoch, self.cfg.DEFENSE.WARMUP_EPOCHS) * self.cfg.DEFENSE.EPS
        log_scalar("attack/eps", torch.tensor(eps))
        log_scalar("attack/moved", (attacked["images"] - batch["images"]).abs().mean())
        return attacked

    def losses(self, batch: dict, attacked: dict) -> dict[str, Tensor]:
        """What is minimised: weighted losses by name, and the attacked ones by name + "_attacked".

        A batch that no loss needs is not passed through the model. Both passes are in training
        mode, each normalised by its own statistics, which are recorded.
        """
        losses = {}
        # The attacked pass is the first, so that the accuracy in the log is the clean one's.
        if self.attacked_weight or self.distance_weight:
            found, attacked_features = self.forward(attacked)
            if self.attacked_weight:
                for name, loss in found.items():
                    losses[f"{name}_attacked"] = self.attacked_weight * loss
        if self.clean_weight or self.distance_weight:
            found, features = self.forward(batch)
            if self.clean_weight:
                losses |= {name: self.clean_weight * loss for name, loss in found.items()}
        if self.distance_weight:
            gap = feature_gap(attacked_features, features, self.cfg.TEST.METRIC)
            losses["loss_distance"] = self.distance_weight * gap
        return losses

    def forward(self, batch: dict) -> tuple[dict[str, Tensor], Tensor | None]:
        """The model's losses of a batch and, where they are compared, its features (B, D)."""
        if not self.distance_weight:
            return self.model(batch), None
        with captured_features(self.model.heads) as features:
            losses = self.model(batch)
        return losses, features[0]

    def batch_losses(self, pair: tuple[dict, dict]) -> dict[str, Tensor]:
        """The losses of a (clean, attacked) pair of batches."""
        return self.losses(*pair)


def feature_gap(features: Tensor, others: Tensor, metric: str) -> Tensor:
    """Mean over the batch of |f - o|^2 between features (B, D), as ``metric`` compares them.

    For "cosine" that is 2 (1 - cos). In float32, also of half-precision features.
    """
    features, others = (compared(each.float(), metric) for each in (features, others))
    return (features - others).square().sum(dim=1).mean()


@contextlib.contextmanager
def captured_features(heads: nn.Module) -> Iterator[list[Tensor]]:
    """A list that receives the ``features`` (B, D) of each training pass through ``heads``."""
    captured: list[Tensor] = []
    hook = heads.register_forward_hook(lambda _, __, outputs: captured.append(outputs["features"]))
    try:
        yield captured
    finally:
        hook.remove()


def loss_weights(cfg: CfgNode) -> list[float]:
    """The WEIGHTS of DEFENSE.

    Raises:
        InputError: one is negative, or all are 0.
    """
    weights = [cfg.DEFENSE[key] for key in WEIGHTS]
    for key, weight in zip(WEIGHTS, weights, strict=True):
        if not weight >= 0:
            raise InputError(f"DEFENSE.{key}: {weight}; expected 0 or more")
    if not any(weights):
        raise InputError(f"DEFENSE: {', '.join(WEIGHTS)} are all 0; expected one above 0")
    return weights
