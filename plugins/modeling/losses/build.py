"""From names in the config to losses."""

from collections.abc import Sequence

from fastreid.config import CfgNode
from torch import nn

from plugins.errors import InputError
from plugins.modeling.losses.base import as_loss
from plugins.registry import LOSS, lookup


def build_losses(
    cfg: CfgNode, listed: Sequence[str] | None = None, key: str = "MODEL.LOSSES.NAME"
) -> nn.ModuleList:
    """Build the losses of ``MODEL.LOSSES.NAME``, or of another list, in that order.

    Args:
        cfg: its sections of MODEL.LOSSES hold the settings.
        listed: names; None for those of ``MODEL.LOSSES.NAME``.
        key: where the names stand, for messages.

    Returns:
        Each a ``Loss``, or another module with a ``key`` that is called as one is.

    Raises:
        InputError: a name is not registered; two losses have the same key, so that one would be
            lost; or from ``as_loss``.
    """
    losses = nn.ModuleList()
    names: dict[str, str] = {}  # of the losses, by their keys
    for name in cfg.MODEL.LOSSES.NAME if listed is None else listed:
        loss = as_loss(name, lookup(LOSS, name, key)(cfg))
        if loss.key in names:
            raise InputError(
                f"{key}: {names[loss.key]} and {name} are both called '{loss.key}'; "
                "expected each loss once, with a key of its own"
            )
        names[loss.key] = name
        losses.append(loss)
    return losses
