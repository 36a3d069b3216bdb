"""A second branch of every batch normalisation, for attacked batches.

Clean and attacked features are distributed differently, so each kind of batch gets its own
statistics and its own affine weights; all other layers are shared. Xie et al., "Adversarial
Examples Improve Image Recognition", CVPR 2020.
"""

import contextlib
import copy
from collections.abc import Iterator
from functools import cache

from fastreid.config import CfgNode
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from plugins.errors import InputError

BRANCHES = ("clean", "attacked")


class DualNorm:
    """Mixed into the class of a BatchNorm: itself the deployed branch, with the other as a child.

    The child is named after the batches it normalises. So the deployed branch keeps its names in a
    checkpoint, and a stock model reads it from there, while a run that deploys the other branch
    finds names missing instead of two branches in each other's place.

    Attributes:
        deployed: the branch that evaluation uses, one of BRANCHES.
        batch: of which kind training batches are now, one of BRANCHES.
    """

    deployed: str
    batch: str

    def forward(self, *inputs: Tensor) -> Tensor:
        """Normalise by the branch of the batch; in evaluation mode by the deployed one."""
        if self.training and self.batch != self.deployed:
            return getattr(self, self.batch)(*inputs)
        return super().forward(*inputs)


def add_dual_norm(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """Give each BatchNorm of a built model a second branch, if MODEL.DUAL_NORM asks for it.

    Both branches start alike. A norm whose statistics are frozen for good has but one.

    Args:
        model: any meta-architecture, with the weights that it starts from; it is changed.
        cfg: its MODEL.DUAL_NORM is read.

    Returns:
        The same model.

    Raises:
        InputError: there is no such branch to deploy.
    """
    settings = cfg.MODEL.DUAL_NORM
    if not settings.ENABLED:
        return model
    if settings.DEPLOYED not in BRANCHES:
        raise InputError(
            f"MODEL.DUAL_NORM.DEPLOYED: '{settings.DEPLOYED}'; expected {' or '.join(BRANCHES)}"
        )
    (other,) = set(BRANCHES) - {settings.DEPLOYED}
    for norm in [part for part in model.modules() if isinstance(part, _BatchNorm)]:
        norm.add_module(other, copy.deepcopy(norm))
        norm.__class__ = dual_class(type(norm))
        norm.deployed, norm.batch = settings.DEPLOYED, "clean"
    return model


def check_branches(cfg: CfgNode, trained: set[str]) -> None:
    """Raise InputError if MODEL.DUAL_NORM is on and a branch is none of those ``trained``.

    It would stay as it was built, and be deployed, or be of no use.
    """
    idle = [branch for branch in BRANCHES if branch not in trained]
    if cfg.MODEL.DUAL_NORM.ENABLED and idle:
        raise InputError(
            f"MODEL.DUAL_NORM.ENABLED: True, but {cfg.SOLVER.STEP} as it is set trains on no "
            f"{' and no '.join(idle)} batches; expected False"
        )


@cache
def dual_class(norm_class: type[_BatchNorm]) -> type[_BatchNorm]:
    """The class of norm with a second branch, itself a ``norm_class`` for all who ask."""
    return type(f"Dual{norm_class.__name__}", (DualNorm, norm_class), {})


@contextlib.contextmanager
def attacked_branch(model: nn.Module) -> Iterator[None]:
    """Training batches inside are attacked ones; nothing changes in a model without branches."""
    norms = [part for part in model.modules() if isinstance(part, DualNorm)]
    before = [norm.batch for norm in norms]
    for norm in norms:
        norm.batch = "attacked"
    try:
        yield
    finally:
        for norm, batch in zip(norms, before, strict=True):
            norm.batch = batch
