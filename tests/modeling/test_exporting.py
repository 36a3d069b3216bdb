"""What an export computes in another way equals what training and evaluation compute."""

import pytest
import torch
from torch import Tensor, nn

from plugins.inference.export.program import trace
from plugins.modeling.temporal.cells import frame_changes, with_first
from plugins.modeling.temporal.recurrence import run_lstm


class Recurrence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 3, batch_first=True, bidirectional=True)

    def forward(self, values: Tensor) -> Tensor:
        return run_lstm(self.lstm, values)


class Changes(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        # As STIG does: what normalizes the changes is not 0 at 0.
        return with_first(2 * frame_changes(values) + 1, values.shape[1])


def exported(module: nn.Module) -> nn.Module:
    return trace(module, [torch.rand(2, 4, 5)], free_frames=True).module()


@pytest.mark.slow
@pytest.mark.parametrize("module", [Recurrence(), Changes()], ids=["lstm", "changes"])
@torch.no_grad()
def test_a_program_takes_sequences_of_any_length(module):
    program = exported(module)
    for clips, frames in ((1, 1), (1, 2), (3, 1), (3, 2), (2, 9)):
        values = torch.randn(clips, frames, 5)
        torch.testing.assert_close(program(values), module(values), atol=1e-6, rtol=0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_meta_device_knows_the_shapes_and_refuses_other_values(bidirectional):
    lstm = nn.LSTM(5, 3, batch_first=True, bidirectional=bidirectional)
    shape = run_lstm(lstm, torch.rand(2, 4, 5)).shape
    assert run_lstm(lstm.to("meta"), torch.rand(2, 4, 5, device="meta")).shape == shape
    with pytest.raises(RuntimeError, match="5"):
        run_lstm(lstm, torch.rand(2, 4, 6, device="meta"))
