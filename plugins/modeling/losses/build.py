"""From names in the config to losses."""

from typing import Protocol

from fastreid.config import CfgNode
from torch import Tensor

from plugins.registry import LOSS, lookup


class Loss(Protocol):
    """What the LOSS registry holds: a callable that bears its name in the dict of losses."""

    key: str

    def __call__(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Weighted loss of one batch.

        Args:
            outputs: what the head returns in training: ``cls_outputs`` and ``pred_class_logits``
                (B, classes), ``features`` (B, D).
            targets: (B,) person labels.
            modalities: (B,) 0 visible, 1 infrared.

        Returns:
            Scalar, already multiplied by its ``SCALE``.
        """


def build_losses(cfg: CfgNode) -> list[Loss]:
    """The losses of ``MODEL.LOSSES.NAME``, in that order.

    Raises:
        InputError: a name is not registered.
    """
    return [lookup(LOSS, name, "MODEL.LOSSES.NAME")(cfg) for name in cfg.MODEL.LOSSES.NAME]
