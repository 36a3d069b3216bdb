"""Cut a frame into cells, the local parts that STIG relates.

Legend: B clips, T frames, C channels of a stage, h x w its maps, K = rows x columns cells.
"""

import torch
from fastreid.config import CfgNode
from torch import Tensor

from plugins.errors import InputError
from plugins.modeling.backbones.trunks import stage_channels
from plugins.modeling.exporting import exporting

# Stages that cells can be taken from.
SOURCES = ("layer2", "layer3", "layer4")


def source_channels(cfg: CfgNode, source: str) -> int:
    """Return the channels of a stage of a trunk that ends in ``MODEL.BACKBONE.FEAT_DIM``."""
    channels = stage_channels(cfg)
    return cfg.MODEL.BACKBONE.FEAT_DIM * channels[source] // channels[SOURCES[-1]]


def cell_means(maps: Tensor, rows: int, columns: int) -> Tensor:
    """Average each cell of a grid, row by row from head to feet, left to right in a row.

    Args:
        maps: (B, T, C, h, w).
        rows: horizontal bands of the grid; each row of a map belongs to exactly one, and their
            heights differ by at most one row.
        columns: vertical bands, likewise.

    Returns:
        (B, T, K, C).

    Raises:
        InputError: the maps have fewer rows or columns than the grid.
    """
    for key, count, size, side in (
        ("STRIPES", rows, maps.shape[-2], "rows"),
        ("COLUMNS", columns, maps.shape[-1], "columns"),
    ):
        if size < count:
            raise InputError(
                f"MODEL.TEMPORAL.STIG.{key}: {count} {key.lower()} do not fit in maps of {size} "
                f"{side}; expected at most {size}, an earlier SOURCE, or larger images"
            )
    return torch.stack(
        [
            cell.mean(dim=(-2, -1))
            for band in maps.tensor_split(rows, dim=-2)
            for cell in band.tensor_split(columns, dim=-1)
        ],
        dim=2,
    )


def frame_changes(sequence: Tensor) -> Tensor:
    """Change since the frame before, (B, T, ...) to (B, T - 1, ...).

    In an export to (B, T, ...), where the first frame changes by 0 until :func:`with_first`.
    """
    if exporting():
        return torch.cat([sequence[:, :1], sequence], dim=1).diff(dim=1)
    return sequence.diff(dim=1)


def with_first(changes: Tensor, frames: int) -> Tensor:
    """Give the first of ``frames`` = T frames a change: (B, T - 1, ...) to (B, T, ...).

    It is the change of the second frame: a 0 would be unlike all others. A single frame gets 0.

    Args:
        changes: of :func:`frame_changes`.
        frames: T.
    """
    if exporting():
        padded = torch.cat([changes, torch.zeros_like(changes[:, :1])], dim=1)
        is_first = torch.arange(frames, device=changes.device) == 0
        return torch.where(is_first.view(-1, *[1] * (changes.dim() - 2)), padded[:, 1:2], changes)
    if frames > 1:
        return torch.cat([changes[:, :1], changes], dim=1)
    return changes.new_zeros(changes.shape[0], frames, *changes.shape[2:])
