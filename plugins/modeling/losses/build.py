"""Build losses from names in the config."""

from collections.abc import Sequence

from fastreid.config import CfgNode
from torch import nn

from plugins.errors import InputError
from plugins.modeling.losses.base import as_loss, key_of
from plugins.registry import LOSS, construct, lookup


def build_losses(
    cfg: CfgNode, listed: Sequence[str] | None = None, key: str = "MODEL.LOSSES.NAME"
) -> nn.ModuleList:
    """Build the losses of ``MODEL.LOSSES.NAME``, or of another list, in that order.

    Args:
        cfg: the sections of MODEL.LOSSES hold the settings.
        listed: names; None for those of ``MODEL.LOSSES.NAME``.
        key: config key of the names, for messages.

    Returns:
        A list of ``Loss``, or of other modules with a ``key`` and the same arguments.

    Raises:
        InputError: a name is not registered; two losses have the same key, so that one would be
            lost; or from ``as_loss`` or ``construct``.
    """
    losses = nn.ModuleList()
    names: dict[str, str] = {}  # names of the losses by their keys
    for name in cfg.MODEL.LOSSES.NAME if listed is None else listed:
        loss = as_loss(name, construct(lookup(LOSS, name, key, "cfg"), name, key, cfg))
        if key_of(loss) in names:
            raise InputError(
                f"{key}: {names[key_of(loss)]} and {name} are both called '{key_of(loss)}'; "
                "expected each loss once, and another key for each"
            )
        names[key_of(loss)] = name
        losses.append(loss)
    return losses
