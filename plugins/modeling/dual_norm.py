"""Add a second branch to every batch normalization, for attacked batches.

Clean and attacked features are distributed differently, so each kind of batch gets statistics and
affine weights; all other layers are shared. Xie et al., "Adversarial Examples Improve Image
Recognition", CVPR 2020.
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import cast

from fastreid.config import CfgNode
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from plugins.config import check_value
from plugins.errors import InputError

BRANCHES = ("clean", "attacked")
_dual_classes: dict[type[_BatchNorm], type[_BatchNorm]] = {}


class DualNorm(nn.Module):
    """Mixin of a BatchNorm, which is the deployed branch and has the other branch as a child.

    The child has the name of the batches that it normalizes. So the deployed branch keeps its names
    in a checkpoint, and a stock model can read it, while a run that deploys the other branch finds
    names missing instead of swapped branches.

    Attributes:
        deployed: the branch that evaluation uses, one of BRANCHES.
        batch: the kind of the present training batches, one of BRANCHES.
    """

    deployed: str
    batch: str

    def forward(self, *inputs: Tensor) -> Tensor:
        """Normalize by the branch of the batch; in evaluation mode by the deployed branch."""
        if self.training and self.batch != self.deployed:
            return getattr(self, self.batch)(*inputs)
        return super().forward(*inputs)


def add_dual_norm(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """Give each BatchNorm of a built model a second branch, if MODEL.DUAL_NORM asks for it.

    Both branches start alike. A norm whose statistics are frozen for good gets no second one.

    Args:
        model: any meta-architecture, with its initial weights; it is changed.
        cfg: MODEL.DUAL_NORM is read.

    Returns:
        The same model.

    Raises:
        InputError: there is no such branch to deploy.
    """
    settings = cfg.MODEL.DUAL_NORM
    if not settings.ENABLED:
        return model
    check_value("MODEL.DUAL_NORM.DEPLOYED", settings.DEPLOYED)
    (other,) = set(BRANCHES) - {settings.DEPLOYED}
    for norm in [part for part in model.modules() if isinstance(part, _BatchNorm)]:
        norm.add_module(other, copy.deepcopy(norm))
        norm.__class__ = dual_class(type(norm))
        dual = cast(DualNorm, norm)
        dual.deployed, dual.batch = settings.DEPLOYED, "clean"
    return model


def check_branches(cfg: CfgNode, trained: set[str]) -> None:
    """Raise InputError if MODEL.DUAL_NORM is on and a branch is not ``trained``.

    An untrained branch would stay as it was built, and be deployed, or be useless.
    """
    idle = [branch for branch in BRANCHES if branch not in trained]
    if cfg.MODEL.DUAL_NORM.ENABLED and idle:
        raise InputError(
            f"MODEL.DUAL_NORM.ENABLED: True, but {cfg.SOLVER.STEP} as it is set trains on no "
            f"{' and no '.join(idle)} batches; expected False"
        )


def dual_class(norm_class: type[_BatchNorm]) -> type[_BatchNorm]:
    """Return the subclass of ``norm_class`` with a second branch, the same at each call."""
    if norm_class not in _dual_classes:
        name = f"Dual{norm_class.__name__}"
        _dual_classes[norm_class] = type(name, (DualNorm, norm_class), {})
    return _dual_classes[norm_class]


@contextlib.contextmanager
def attacked_branch(model: nn.Module) -> Iterator[None]:
    """Treat training batches inside as attacked; a model without branches does not change."""
    norms = [part for part in model.modules() if isinstance(part, DualNorm)]
    before = [norm.batch for norm in norms]
    for norm in norms:
        norm.batch = "attacked"
    try:
        yield
    finally:
        for norm, batch in zip(norms, before, strict=True):
            norm.batch = batch
