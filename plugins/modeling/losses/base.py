"""What a loss is, also one that is no class of this package."""

from collections.abc import Callable

from torch import Tensor, nn

from plugins.errors import InputError


class Loss(nn.Module):
    """Base class of what the LOSS registry holds: a scalar of a batch, under a name of its own.

    A subclass is built from the config alone, names itself in ``key`` and defines ``forward``. Its
    parameters, buffers and submodules are the model's: they train with the main optimizer, move to
    the device, and are in checkpoints (below ``loss_functions.``), where a resumed run needs them
    and an evaluation does not::

        @LOSS.register()
        class CenterLoss(Loss):
            key = "loss_center"

            def __init__(self, cfg):
                super().__init__()
                shape = cfg.MODEL.HEADS.NUM_CLASSES, cfg.MODEL.BACKBONE.FEAT_DIM
                self.centers = nn.Parameter(torch.randn(shape))

            def forward(self, outputs, targets, modalities):
                return (outputs["features"] - self.centers[targets]).square().sum(dim=1).mean()

    Attributes:
        key: name in the dict of losses, the log and metrics.json; no two losses of a config share
            it.
    """

    key: str

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute the weighted loss of one batch.

        Args:
            outputs: what the head returns in training: ``cls_outputs`` and ``pred_class_logits``
                (B, classes), ``features`` (B, D); float32, also under mixed precision.
            targets: (B,) person labels.
            modalities: (B,) 0 visible, 1 infrared.

        Returns:
            Scalar, already multiplied by its ``SCALE``.
        """
        raise NotImplementedError


class FunctionLoss(Loss):
    """A callable without parameters as a module, so that a list of modules can hold it."""

    def __init__(self, function: Callable[..., Tensor], key: str) -> None:
        """Wrap ``function``, which takes and returns what ``Loss.forward`` does."""
        super().__init__()
        self.function = function
        self.key = key

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Call the function; see ``Loss``."""
        return self.function(outputs, targets, modalities)

    def extra_repr(self) -> str:
        """Name what is wrapped."""
        return repr(self.key)


def as_loss(name: str, built: nn.Module | Callable[..., Tensor]) -> nn.Module:
    """Return what a registered name built as a module that can be a part of the model.

    Args:
        name: the registered name, for messages.
        built: a module, or a callable without parameters.

    Raises:
        InputError: it has no ``key``, or it is no module although it holds parameters, which would
            neither train nor be saved.
    """
    key = getattr(built, "key", None)
    if not isinstance(key, str) or not key:
        raise InputError(
            f"MODEL.LOSSES.NAME: {name} has no 'key'; expected the name of its loss in the log, "
            "such as 'loss_center'"
        )
    if isinstance(built, nn.Module):
        return built
    held = [
        attribute
        for attribute, value in getattr(built, "__dict__", {}).items()
        if isinstance(value, nn.Parameter | nn.Module)
    ]
    if held:
        raise InputError(
            f"MODEL.LOSSES.NAME: {name} holds parameters ({', '.join(held)}) but is no nn.Module, "
            "so they would not train; expected a subclass of plugins.modeling.losses.Loss"
        )
    return FunctionLoss(built, key)
