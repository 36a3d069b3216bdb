"""From names in the config to losses."""

from fastreid.config import CfgNode
from torch import nn

from plugins.errors import InputError
from plugins.modeling.losses.base import as_loss
from plugins.registry import LOSS, lookup


def build_losses(cfg: CfgNode) -> nn.ModuleList:
    """Build the losses of ``MODEL.LOSSES.NAME``, in that order.

    Returns:
        Each a ``Loss``, or another module with a ``key`` that is called as one is.

    Raises:
        InputError: a name is not registered; two losses have the same key, so that one would be
            lost; or from ``as_loss``.
    """
    losses = nn.ModuleList()
    names: dict[str, str] = {}  # of the losses, by their keys
    for name in cfg.MODEL.LOSSES.NAME:
        loss = as_loss(name, lookup(LOSS, name, "MODEL.LOSSES.NAME")(cfg))
        if loss.key in names:
            raise InputError(
                f"MODEL.LOSSES.NAME: {names[loss.key]} and {name} are both called '{loss.key}'; "
                "expected each loss once, with a key of its own"
            )
        names[loss.key] = name
        losses.append(loss)
    return losses
