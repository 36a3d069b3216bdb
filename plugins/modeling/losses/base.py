"""The base class of losses, which also wraps a loss that is no class of this package."""

from collections.abc import Callable
from typing import Any, cast

from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.errors import InputError


class Loss(nn.Module):
    """Base class of the losses in the LOSS registry: a scalar of a batch, under a unique name.

    A subclass names itself in ``key`` and defines ``value``. If it names a ``section`` of
    MODEL.LOSSES, the section's keys become attributes, in lower case::

        @LOSS.register()
        class Entropy(Loss):
            key, section = "loss_entropy", "ENTROPY"  # SCALE and TEMPERATURE
            temperature: float

            def value(self, outputs, targets, modalities):
                logits = outputs["pred_class_logits"] / self.temperature
                return -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1).mean()

    Parameters, buffers and submodules are the model's: they train with the main optimizer, move to
    the device, and are in checkpoints (below ``loss_functions.``), where a resumed run needs them
    and an evaluation does not. Such a loss defines a constructor, which takes the config::

        @LOSS.register()
        class CenterLoss(Loss):
            key = "loss_center"

            def __init__(self, cfg):
                super().__init__()
                shape = cfg.MODEL.HEADS.NUM_CLASSES, cfg.MODEL.BACKBONE.FEAT_DIM
                self.centers = nn.Parameter(torch.randn(shape))

            def value(self, outputs, targets, modalities):
                return (outputs["features"] - self.centers[targets]).square().sum(dim=1).mean()

    Attributes:
        key: name in the dict of losses, the log and metrics.json; no two losses of a config share
            it.
        section: name of the section of MODEL.LOSSES that holds the settings; "" for none.
        scale: weight.
    """

    key: str
    section: str = ""
    scale: float = 1.0

    @configurable
    def __init__(self, **settings: Any) -> None:
        """Keep the settings as attributes."""
        super().__init__()
        for name, setting in settings.items():
            setattr(self, name, setting)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read the section; its keys in lower case are the names of the settings."""
        section = cfg.MODEL.LOSSES[cls.section] if cls.section else {}
        return {key.lower(): setting for key, setting in section.items()}

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute the weighted loss of one batch; arguments as in ``value``.

        Raises:
            InputError: ``value`` returns no scalar.
        """
        value = self.value(outputs, targets, modalities)
        check_scalar(self.key, value)
        return self.scale * value

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute the loss of one batch without its weight.

        Args:
            outputs: the head's training outputs: ``cls_outputs`` and ``pred_class_logits``
                (B, classes), ``features`` (B, D); float32, also under mixed precision.
            targets: (B,) person labels.
            modalities: (B,) 0 visible, 1 infrared.

        Returns:
            Scalar.
        """
        raise NotImplementedError


class FunctionLoss(Loss):
    """A callable without parameters as a module, so that a list of modules can hold it."""

    def __init__(self, function: Callable[..., Tensor], key: str) -> None:
        """Wrap ``function``, which takes and returns what ``Loss.value`` does."""
        super().__init__()
        self.function = function
        self.key = key

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Call the function; see ``Loss``."""
        return self.function(outputs, targets, modalities)

    def extra_repr(self) -> str:
        """Name the loss."""
        return repr(self.key)


class MissingOutput(KeyError):
    """Tell that a loss reads an output that the head does not give."""


class Outputs(dict[str, Tensor]):
    """The training outputs of a head, which tell a missing one from another mistake in a loss."""

    def __missing__(self, key: str) -> Tensor:
        """Raise MissingOutput."""
        raise MissingOutput(f"outputs has no {key!r}; it has {', '.join(self)}")


def loss_of_batch(loss: nn.Module, outputs: Outputs, targets: Tensor, modalities: Tensor) -> Tensor:
    """Compute a loss, which may be a user's; arguments as in ``Loss.value``.

    Raises:
        InputError: the loss reads an output that there is not, or gives no scalar.
    """
    try:
        value = loss(outputs, targets, modalities)
    except MissingOutput as error:
        part = loss.function if isinstance(loss, FunctionLoss) else loss
        raise InputError(f"{key_of(loss)}: {type(part).__name__}: {error.args[0]}") from error
    if type(loss).forward is not Loss.forward:  # which checks it before it weights it
        check_scalar(key_of(loss), value)
    return value


def check_scalar(name: str, value: object) -> None:
    """Raise InputError unless the value of a loss is a tensor of one number."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)[:60]
        raise InputError(
            f"{name}: the loss of a batch is {found}; expected a tensor with one number, such as a "
            "mean over the batch"
        )


def key_of(loss: nn.Module) -> str:
    """Return the name of a loss in the log."""
    return cast(str, loss.key)


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
