"""Check that the parts of a model take the arguments that the model passes to them."""

from collections.abc import Callable, Iterator

from torch import nn

from plugins.errors import InputError
from plugins.modeling.losses.base import FunctionLoss, Loss
from plugins.modeling.temporal.base import CenteredPart
from plugins.registry import check_call

# What a class inherits that does not define what is called -> what is missing.
MISSING: dict[object, str] = {
    nn.Module.forward: "forward; expected that method, or for a loss a subclass of "
    "plugins.modeling.losses.Loss, whose forward calls value",
    Loss.value: "value; expected value(outputs, targets, modalities)",
}
LOSSES = ("loss_functions", "relation_losses", "frame_losses")  # attributes of VVIBaseline


def check_calls(model: nn.Module) -> None:
    """Raise InputError if a loss, the head or the temporal part takes other arguments, or none.

    Args:
        model: a model of this package, or of fastreid, which has a head alone.
    """
    for key, part, method, arguments in calls(model):
        if expected := MISSING.get(getattr(method, "__func__", None)):
            raise InputError(f"{key}: {type(part).__name__} has no {expected}")
        name = f"{type(part).__name__}.{getattr(method, '__name__', '__call__')}"
        check_call(method, name, key, arguments)


def calls(model: nn.Module) -> Iterator[tuple[str, object, Callable, tuple[str, ...]]]:
    """Yield config key, part, method and names of the arguments of each call in a training."""
    for attribute in LOSSES:
        for loss in getattr(model, attribute, None) or ():
            key = "MODEL.LOSSES.FRAMES.NAME" if attribute == "frame_losses" else "MODEL.LOSSES.NAME"
            part = loss.function if isinstance(loss, FunctionLoss) else loss
            method = getattr(part, "forward", part)
            if isinstance(part, Loss) and type(part).forward is Loss.forward:
                method = part.value
            yield key, part, method, ("outputs", "targets", "modalities")
    if isinstance(heads := getattr(model, "heads", None), nn.Module):
        yield "MODEL.HEADS.NAME", heads, heads.forward, ("features", "targets")
        yield "MODEL.HEADS.NAME", heads, heads.forward, ("features",)
    if isinstance(temporal := getattr(model, "temporal", None), nn.Module):
        more = ("modalities", "source_maps") if isinstance(temporal, CenteredPart) else ()
        yield "MODEL.TEMPORAL.NAME", temporal, temporal.forward, ("maps", *more)
