"""Attacks that ask the model for its ranking only, never for a gradient.

Where they find more than an attack with gradients, the gradients are masked.

Legend: B clips of T frames of 3 x H x W, R rows they belong to. Pixels in 0-255 units.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from plugins.attacks.threat_model import Region
from plugins.errors import InputError

if TYPE_CHECKING:
    from plugins.attacks.optimizers import Explorer, Recipe

# Share of an image that the first square covers; AutoAttack's, for every data set.
FIRST_SHARE = 0.8
# Of 10 000 queries, those after which the share is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square_share(query: int, queries: int) -> float:
    """p: the share of an image that the square of one of ``queries`` covers.

    >>> [square_share(query, 10_000) for query in (10, 11, 51, 201)]
    [0.8, 0.4, 0.2, 0.1]
    """
    place = query * 10_000 // queries
    return FIRST_SHARE / 2 ** sum(place > halving for halving in HALVINGS)


def climb_by_squares(explorer: "Explorer", images: Tensor, recipe: "Recipe") -> None:
    """Square attack for L-inf: squares of +-eps at random places, each kept where it helps.

    Andriushchenko et al., ECCV 2020, algorithms 1 and 2. It starts from vertical stripes, so that
    of ``images`` only the shape counts. A clip has its square at one place in all frames; the sign
    is of a frame and channel, or of those that the threat model ties.

    Args:
        explorer: what looks; one query a step.
        images: (B, T, 3, H, W).
        recipe: ``steps`` is the number of queries.

    Raises:
        InputError: the threat model's norm is not L-inf.
    """
    region = explorer.region
    if region.threat.norm != "linf":
        raise InputError(f"ATTACK.NORM: '{region.threat.norm}'; the square attack knows linf only")
    generators = explorer.generators()
    height, width = images.shape[-2:]
    eps = region.threat.eps
    explorer.look(region.project(region.clean + eps * _signs(region, generators, width)))
    for query in range(1, recipe.steps):
        if explorer.finished:
            return
        area = square_share(query, recipe.steps) * height * width
        side = min(max(round(math.sqrt(area)), 1), height, width)
        places = _squares(region, generators, side)
        # From one end of the budget to the other: what has the sign already stays.
        step = 2 * eps * _signs(region, generators, 1) * places
        explorer.look(region.project(explorer.images + step))


def _signs(region: Region, generators: list[torch.Generator], columns: int) -> Tensor:
    """(B, T, 3, 1, columns) of -1 and 1, equal where the threat model ties."""
    signs = region.clean.new_empty(*region.clean.shape[:3], 1, columns)
    for row, generator in enumerate(generators):
        clips_of_row = region.groups == row
        drawn = torch.randn(signs[clips_of_row].shape, generator=generator)
        signs[clips_of_row] = drawn.to(signs)
    if region.threat.frames == "smooth":
        signs = signs[:, :1].expand_as(signs)
    return region.tie(signs).sign()


def _squares(region: Region, generators: list[torch.Generator], side: int) -> Tensor:
    """(B, 1, 1, H, W) bool, a square of each row."""
    height, width = region.clean.shape[-2:]
    masks = torch.zeros(len(generators), height, width, dtype=torch.bool)
    for mask, generator in zip(masks, generators, strict=True):
        top, left = (
            int(torch.randint(size - side + 1, (), generator=generator)) for size in (height, width)
        )
        mask[top : top + side, left : left + side] = True
    return masks.to(region.groups.device)[region.groups, None, None]
