"""Compute a part in the type of its input, and convolve without torch's errors in bfloat16."""

import contextlib

import torch
from torch import Tensor, nn

from plugins.modeling.exporting import exporting


def no_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return a block in which autocast rests; the meta device has none, nor has an export."""
    if device.type == "meta" or exporting():
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


class WidenedConv2d(nn.Conv2d):
    """A convolution that is right in bfloat16 on a CPU where its output is one column wide.

    On a processor with AMX, torch 2.13 takes part of such an output, and of its gradients, from
    memory that is not the input's if the stride is above 1 (pytorch/pytorch#169688 has a like
    case). At 64x32 pixels the last stage of a ResNet with LAST_STRIDE 2 has one. So under autocast
    the output is computed two columns wide, from zeros on the right, and the second is dropped.
    """

    def forward(self, input: Tensor) -> Tensor:
        """See ``nn.Conv2d``: (N, C, h, w) to (N, C', h', w')."""
        if not torch.is_autocast_enabled("cpu") or self._columns(input.shape[-1]) > 1:
            return super().forward(input)
        return super().forward(nn.functional.pad(input, (0, self.stride[1])))[..., :1]

    def _columns(self, width: int) -> int:
        """Compute the width of the output for an input of this width."""
        padding = self.padding[1]
        assert isinstance(padding, int), "torch takes padding by name with a stride of 1 alone"
        reach = self.dilation[1] * (self.kernel_size[1] - 1) + 1
        return (width + 2 * padding - reach) // self.stride[1] + 1


def widen_convolutions(model: nn.Module) -> None:
    """Make each ``nn.Conv2d`` with a stride and zeros around it a WidenedConv2d, in place."""
    for module in model.modules():
        if type(module) is nn.Conv2d and module.stride[1] > 1 and module.padding_mode == "zeros":
            module.__class__ = WidenedConv2d
