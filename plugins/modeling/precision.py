"""Compute a part in the type of its input, and convolve small maps rightly and fast in bfloat16."""

import contextlib
from typing import cast

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

    And it is fast: 128 images of 512 channels, 3x3 over 2x1 cells, took 10 ms forwards and
    backwards in place of 115; of 256 channels over 4x2 cells 16 in place of 25.
    """

    small = 8  # cells; with more, torch's own is as fast

    def forward(self, input: Tensor) -> Tensor:
        """See ``nn.Conv2d``: (N, C, h, w) to (N, C', h', w')."""
        if not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        rows, columns = (self._outputs(axis, input.shape[axis - 2]) for axis in (0, 1))
        if columns > 1 and rows * columns > self.small:
            return super().forward(input)
        kind = torch.get_autocast_dtype("cpu")
        if self.groups > 1:
            with no_autocast(input.device):
                return super().forward(input.float()).to(kind)
        (down, met), (right, met_right) = (
            self._meetings(axis, input.shape[axis - 2], outputs)
            for axis, outputs in ((0, rows), (1, columns))
        )
        height, width = input.shape[2:]
        places = down[:, None, :, None] * width + right[None, :, None, :]  # (h', w', k, k)
        outside = (down < 0)[:, None, :, None] | (right < 0)[None, :, None, :]
        places = places.masked_fill(outside, height * width)[:, :, met][:, :, :, met_right]
        cells = input.to(kind).flatten(2).transpose(1, 2)
        cells = nn.functional.pad(cells, (0, 0, 0, 1))  # (N, h * w + 1, C), at last the padding
        windows = cells.index_select(1, places.flatten()).view(len(input), rows, columns, -1)
        weight = self.weight[:, :, met][:, :, :, met_right].permute(0, 2, 3, 1)
        return nn.functional.linear(windows, weight.flatten(1), self.bias).permute(0, 3, 1, 2)

    def _outputs(self, axis: int, size: int) -> int:
        """Compute rows (axis 0) or columns (axis 1) of the output for an input of this size."""
        padding, dilation = cast(tuple[int, int], self.padding)[axis], self.dilation[axis]
        reach = dilation * (self.kernel_size[axis] - 1) + 1
        return (size + 2 * padding - reach) // self.stride[axis] + 1

    def _meetings(self, axis: int, size: int, outputs: int) -> tuple[Tensor, slice]:
        """Find the cell that each tap meets for each output, -1 for padding, (outputs, k).

        Returns:
            (cells, the taps that meet more than padding)
        """
        padding, dilation = cast(tuple[int, int], self.padding)[axis], self.dilation[axis]
        starts = self.stride[axis] * torch.arange(outputs, device=self.weight.device) - padding
        taps = torch.arange(self.kernel_size[axis], device=starts.device)
        cells = starts[:, None] + dilation * taps
        cells = cells.masked_fill((cells < 0) | (cells >= size), -1)
        met = (cells >= 0).any(dim=0).nonzero().flatten().tolist() or [0]
        return cells, slice(met[0], met[-1] + 1)


def compute_small_convolutions(model: nn.Module) -> None:
    """Make each ``nn.Conv2d`` whose windows are larger than a cell a SmallConv2d, in place."""
    for module in model.modules():
        zeros = type(module) is nn.Conv2d and module.padding_mode == "zeros"
        if zeros and module.kernel_size != (1, 1) and not isinstance(module.padding, str):
            module.__class__ = SmallConv2d
