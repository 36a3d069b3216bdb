"""Check that the parts of a model take the arguments that the model passes to them."""

import inspect
from collections.abc import Callable, Iterator

from torch import nn

from plugins.errors import InputError
from plugins.modeling.losses.base import FunctionLoss, Loss
from plugins.modeling.temporal.base import CenteredPart

LOSSES = ("loss_functions", "relation_losses", "frame_losses")  # attributes of VVIBaseline


def check_calls(model: nn.Module) -> None:
    """Raise InputError if a loss, the head or the temporal part takes other arguments.

    Args:
        model: a model of this package, or of fastreid, which has a head alone.
    """
    for key, part, method, arguments in calls(model):
        try:
            inspect.signature(method).bind(*arguments)
        except TypeError as error:
            name, expected = getattr(method, "__name__", "__call__"), ", ".join(arguments)
            raise InputError(
                f"{key}: {type(part).__name__}.{name}{inspect.signature(method)}: {error}; "
                f"expected {name}({expected})"
            ) from None
        except ValueError:  # a built-in function tells no signature
            continue


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
