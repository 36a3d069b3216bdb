"""Compute a part in the type of its input, whatever the precision of the training."""

import contextlib

import torch

from plugins.modeling.exporting import exporting


def no_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return a block in which autocast rests; the meta device has none, nor has an export."""
    if device.type == "meta" or exporting():
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
