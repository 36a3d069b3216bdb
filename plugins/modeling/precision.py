"""Compute a part in the type of its input, and convolve small maps rightly and fast in bfloat16."""

import contextlib

import torch
from torch import Tensor, nn

from plugins.modeling.exporting import exporting


def no_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return a block in which autocast rests; the meta device has none, nor has an export."""
    if device.type == "meta" or exporting():
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


class SmallConv2d(nn.Conv2d):
    """A convolution that, for a small output on a CPU in mixed precision, is one matrix product.

    So it is right: on a processor with AMX, torch 2.13 takes an output that is one column wide in
    part from memory that is not the input's if the stride is above 1, and its gradients as well
    (pytorch/pytorch#169688 has a like case). At 64x32 pixels the last stage of a ResNet with
    LAST_STRIDE 2 has one.

    And it is fast: 128 images, 512 channels, 3x3 over 2x1 cells took 21 ms forwards and backwards
    in place of 115, over 4x2 cells 48 in place of 135.
    """

    small = 8  # cells; with more, torch's own is as fast

    def forward(self, input: Tensor) -> Tensor:
        """See ``nn.Conv2d``: (N, C, h, w) to (N, C', h', w')."""
        if not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        rows, columns = (self._output_size(input.shape[axis - 2], axis) for axis in (0, 1))
        if columns > 1 and rows * columns > self.small:
            return super().forward(input)
        windows = nn.functional.unfold(
            input.to(torch.get_autocast_dtype("cpu")),
            self.kernel_size,
            self.dilation,
            self.padding,  # type: ignore[arg-type]
            self.stride,
        )  # (N, C * k * k, cells)
        windows = windows.unflatten(1, (self.groups, -1)).permute(1, 0, 3, 2)
        weight = self.weight.flatten(1).unflatten(0, (self.groups, -1)).transpose(1, 2)
        products = windows.flatten(1, 2) @ weight  # (groups, N * cells, C' / groups)
        products = products.unflatten(1, (len(input), -1)).permute(1, 0, 3, 2).flatten(1, 2)
        output = products.unflatten(2, (rows, columns))
        return output if self.bias is None else output + self.bias[:, None, None].to(output.dtype)

    def _output_size(self, size: int, axis: int) -> int:
        """Compute rows (axis 0) or columns (axis 1) of the output for an input of this size."""
        padding = self.padding[axis]
        assert isinstance(padding, int), "padding by name is left to torch"
        reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
        return (size + 2 * padding - reach) // self.stride[axis] + 1


def compute_small_convolutions(model: nn.Module) -> None:
    """Make each ``nn.Conv2d`` whose windows are larger than a cell a SmallConv2d, in place."""
    for module in model.modules():
        zeros = type(module) is nn.Conv2d and module.padding_mode == "zeros"
        if zeros and module.kernel_size != (1, 1) and not isinstance(module.padding, str):
            module.__class__ = SmallConv2d
