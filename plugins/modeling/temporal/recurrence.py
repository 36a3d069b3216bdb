"""Run an LSTM over sequences, also where the length of the sequences is a symbol.

Legend: N sequences of length L, D their values, H hidden values.
"""

import torch
from torch import Tensor, nn

from plugins.modeling.exporting import exporting


def run_lstm(lstm: nn.LSTM, sequences: Tensor) -> Tensor:
    """Compute the hidden states (N, L, H) of an LSTM over sequences (N, L, D).

    Both directions are concatenated, (N, L, 2 H), if the LSTM has two.
    """
    if exporting():
        return scan_lstm(lstm, sequences)
    if sequences.is_meta:  # shapes alone: torch would go through every step to find them
        return lstm(sequences[:, :1])[0].expand(-1, sequences.shape[1], -1)
    if lstm.training or not torch.is_grad_enabled():
        return lstm(sequences)[0]
    # cuDNN's LSTM has no backward pass in evaluation mode, which gradient attacks need.
    with torch.backends.cudnn.flags(enabled=False):
        return lstm(sequences)[0]


def scan_lstm(lstm: nn.LSTM, sequences: Tensor) -> Tensor:
    """Compute :func:`run_lstm` as one loop, equal up to rounding.

    An export unrolls ``nn.LSTM``: the program then takes sequences of one length alone. A loop
    takes any length, and is an operator of its own in ONNX, Scan.
    """
    assert lstm.num_layers == 1 and lstm.batch_first and lstm.bias, "an LSTM of this package"
    states = [_scan(lstm, sequences, "")]
    if lstm.bidirectional:
        states.append(_scan(lstm, sequences.flip(1), "_reverse").flip(1))
    return torch.cat(states, dim=-1)


def _scan(lstm: nn.LSTM, sequences: Tensor, suffix: str) -> Tensor:
    """Compute the hidden states (N, L, H) of a direction, from the first value on."""
    from torch._higher_order_ops.scan import scan  # a prototype; an older torch has none

    of_input, of_hidden, input_bias, hidden_bias = (
        getattr(lstm, f"{name}_l0{suffix}")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    inputs = nn.functional.linear(sequences, of_input, input_bias + hidden_bias)  # (N, L, 4 H)

    def step(state: tuple[Tensor, Tensor], gates: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        hidden, cell = state
        enter, forget, candidate, leave = (gates + hidden @ of_hidden.T).chunk(4, dim=-1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        return (hidden, cell), hidden.clone()  # an output must not be the state itself

    # Dynamo keeps the code of an earlier scan, whose guards would limit the sizes of this one.
    torch._dynamo.reset()
    start = sequences.new_zeros(sequences.shape[0], lstm.hidden_size)
    _, states = scan(step, (start, start.clone()), inputs, dim=1)
    return states
