"""Compute a part in the type of its input, whatever the precision of the training."""

import contextlib

import torch


def no_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return a block in which autocast rests; the meta device has none."""
    if device.type == "meta":
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
