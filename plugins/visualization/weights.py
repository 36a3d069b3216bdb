"""What a temporal part makes of the frames and cells of a clip: STIG, TemporalAttention.

Legend: T frames, C channels of the trunk, K = rows x columns cells, C' channels of their stage.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.inference import Embedder
from plugins.modeling.temporal import STIG, TemporalAttention
from plugins.modeling.temporal.cells import cell_means
from plugins.visualization.clips import choose_clips, frames_of, network_of, read_clips
from plugins.visualization.evaluated_set import EvaluatedSet
from plugins.visualization.picture import Picture, counted
from plugins.visualization.strips import HEAT, SIGNED, Block, Line, draw_blocks, gray, pixels

GATES_HEIGHT, WEIGHTS_HEIGHT = 1.3, 0.4  # inches


class ClipWeights(NamedTuple):
    """How frames and cells of a clip weigh.

    Attributes:
        gates: (T, C) factor of each channel of each frame; for TemporalAttention (T, 1). The mean
            over the frames of factor times frame is the clip's feature.
        cells: (T, rows, columns) how much the gates depend on each cell, see
            :func:`cell_influence`; None for a part without cells.
    """

    gates: Tensor
    cells: Tensor | None


def temporal_part(network: nn.Module) -> STIG | TemporalAttention:
    """Return the temporal part of a network.

    Raises:
        InputError: it has none, or one without weights.
    """
    part = getattr(network, "temporal", None)
    if not isinstance(part, STIG | TemporalAttention):
        raise InputError(
            f"weights: the temporal part of {type(network).__name__} is "
            f"{'none' if part is None else type(part).__name__}; expected STIG or TemporalAttention"
        )
    return part


@torch.no_grad()
def clip_weights(network: nn.Module, batch: dict) -> list[ClipWeights]:
    """Compute the weights of each clip of a batch, in evaluation.

    Raises:
        InputError: the temporal part has no weights.
    """
    part = temporal_part(network)
    seen: list[tuple[Any, ...]] = []
    hook = part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    try:
        network(batch)
    finally:
        hook.remove()
    ((maps, modalities, source_maps),) = seen
    if isinstance(part, TemporalAttention):
        return [ClipWeights(gates.cpu(), None) for gates in part.weights(maps, modalities)]
    assert isinstance(part, STIG)
    source = maps if source_maps is None else source_maps
    cells = cell_means(source.float(), part.rows, part.columns)
    gates = part.gates(cells, modalities)
    found = []
    for index in range(len(cells)):
        one = slice(index, index + 1)
        influence = cell_influence(part, cells[one], modalities[one])
        shaped = influence.unflatten(1, (part.rows, part.columns))
        found.append(ClipWeights(gates[index].cpu(), shaped.cpu()))
    return found


def mean_cells(part: STIG, modality: int) -> Tensor:
    """Return the mean cells (K, C') of a modality, as the training recorded them."""
    means = part.norm.running_mean
    return means[modality if len(means) > 1 else 0].view(part.rows * part.columns, -1)


def cell_influence(part: STIG, cells: Tensor, modalities: Tensor) -> Tensor:
    """Measure how much the gates of a clip change when a cell is replaced by the mean cell.

    Args:
        part: the temporal part, in evaluation.
        cells: (1, T, K, C') of one clip.
        modalities: (1,).

    Returns:
        (T, K): the root mean square over all frames and channels of the change of the gates.
    """
    _, frames, number, _ = cells.shape
    means = mean_cells(part, int(modalities))
    replaced = cells.repeat(frames * number, 1, 1, 1)
    for index in range(frames * number):
        frame, cell = divmod(index, number)
        replaced[index, frame, cell] = means[cell]
    change = part.gates(replaced, modalities.expand(len(replaced))) - part.gates(cells, modalities)
    return change.square().mean(dim=(1, 2)).sqrt().unflatten(0, (frames, number))


def picture_of_weights(
    embedder: Embedder,
    data: EvaluatedSet,
    name: str = "",
    *,
    picks: Sequence[str] = (),
    count: int = 2,
    seed: int = 0,
) -> Picture:
    """Draw the weights of clips; arguments are those of ``choose_clips``.

    Raises:
        InputError: the temporal part has no weights, or from the clips.
    """
    network = network_of(embedder)
    part = temporal_part(network)
    rows = choose_clips(data, name, picks, count, seed)
    batch = read_clips(embedder, data, rows)
    found = clip_weights(network, batch)
    kind = type(part).__name__
    high = max((float(each.cells.max()) for each in found if each.cells is not None), default=0.0)
    reach = max(float((each.gates - 1).abs().max()) for each in found)
    blocks = [
        block_of(data, row, frames, each, max(high, 1e-6), max(reach, 1e-3))
        for row, frames, each in zip(rows, frames_of(batch), found, strict=True)
    ]
    number = counted(batch["images"].shape[1], "frame")
    caption = f"{counted(len(rows), 'clip')} of {data.name}, {number} of each. "
    if isinstance(part, STIG):
        caption += (
            f"Influence of a cell: how much the gates change (root mean square over frames and "
            f"{found[0].gates.shape[1]} channels) when the cell is replaced by the mean cell of "
            "its modality. A gate multiplies a channel of a frame: orange above 1, purple below; "
            "channels stand in the order of their mean gate."
        )
    else:
        caption += "A weight multiplies a whole frame; the mean weight of a clip's frames is 1."
    return Picture(f"Weights of {kind} over frames and cells", caption, draw_blocks(blocks))


def block_of(
    data: EvaluatedSet, row: int, frames: Tensor, found: ClipWeights, high: float, reach: float
) -> Block:
    """Draw a clip: frames, influence of cells, gates."""
    images = pixels(frames)
    lines = [Line("frames,\n" + cast(str, data.modalities[row]), images)]
    if found.cells is not None:
        maps = list(found.cells.numpy())
        lines.append(
            Line("influence\nof cells", maps, HEAT, 0, high, "change of gates", below=gray(images))
        )
    gates = found.gates.T.numpy()
    order = np.argsort(gates.mean(axis=1), kind="stable")[::-1]
    label = "gates of\nchannels" if len(gates) > 1 else "weights\nof frames"
    height = GATES_HEIGHT if len(gates) > 1 else WEIGHTS_HEIGHT
    lines.append(
        Line(label, [gates[order]], SIGNED, 1 - reach, 1 + reach, "factor", height, spans=True)
    )
    means = [f"{value:.2f}" for value in found.gates.mean(dim=1).tolist()]
    person = f"person {data.items[row].pid}, camera {data.items[row].camid}"
    if {*means} != {"1.00"}:  # which would tell nothing
        person += f"; mean weights {', '.join(means)}"
    return Block(f"{data.features.name[row]}\n{person}", lines)
