"""The square attack, which needs only the score of images, never a gradient.

If it succeeds where gradient attacks fail, the gradients are masked. Legend: B clips of T frames of
3 x H x W, R rows they belong to. Pixels are in gray levels, 0 to 255.
"""

import math

import torch
from torch import Tensor

from plugins.attacks.threat_model import PerturbationSet
from plugins.attacks.tracker import BestTracker, is_better
from plugins.errors import InputError
from plugins.utils.random import item_generator

# Share of an image that the first square covers, AutoAttack's choice for every data set.
FIRST_SHARE = 0.8
# Queries, out of 10 000, after which the share is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square_share(query: int, queries: int) -> float:
    """Return p, the share of an image that the square of one of ``queries`` covers.

    >>> [square_share(query, 10_000) for query in (10, 11, 51, 201)]
    [0.8, 0.4, 0.2, 0.1]
    """
    scaled = query * 10_000 // queries
    return FIRST_SHARE / 2 ** sum(scaled > halving for halving in HALVINGS)


def square(tracker: BestTracker, images: Tensor) -> None:
    """Try squares of +-eps at random positions, and keep each where it helps; for L-inf.

    Andriushchenko et al., "Square Attack", ECCV 2020, algorithms 1 and 2. The attack starts from
    vertical stripes, so only the shape of ``images`` matters. A clip has its square at one position
    in all frames; the sign is drawn for each frame and channel, or once for those that the threat
    model ties.

    Args:
        tracker: evaluates images; one of the recipe's steps is one query.
        images: (B, T, 3, H, W).

    Raises:
        InputError: the threat model's norm is not L-inf.
    """
    allowed, queries = tracker.allowed, tracker.recipe.steps
    if allowed.threat.norm != "linf":
        raise InputError(
            f"ATTACK.NORM: '{allowed.threat.norm}'; the square attack supports linf only"
        )
    generators = [
        item_generator(tracker.seed, tracker.restart, row) for row in allowed.rows.tolist()
    ]
    height, width = images.shape[-2:]
    eps = allowed.threat.eps
    best = allowed.project(allowed.clean + eps * _signs(allowed, generators, width))
    best_scores = tracker.evaluate(best)
    for query in range(1, queries):
        if tracker.finished:
            return
        area = square_share(query, queries) * height * width
        side = min(max(round(math.sqrt(area)), 1), height, width)
        mask = _squares(allowed, generators, side)
        # From one end of the budget to the other; a pixel that has the sign already stays.
        step = 2 * eps * _signs(allowed, generators, 1) * mask
        candidate = allowed.project(best + step)
        scores = tracker.evaluate(candidate)
        better = is_better(*scores, *best_scores, tracker.success_first)
        best = torch.where(allowed.expand_rows(better), candidate, best)
        best_scores = (
            torch.where(better, scores[0], best_scores[0]),
            torch.where(better, scores[1], best_scores[1]),
        )


def _signs(allowed: PerturbationSet, generators: list[torch.Generator], columns: int) -> Tensor:
    """Draw (B, T, 3, 1, columns) of -1 and 1, equal where the threat model ties."""
    signs = allowed.clean.new_empty(*allowed.clean.shape[:3], 1, columns)
    for row, generator in enumerate(generators):
        clips = allowed.groups == row
        values = torch.randn(signs[clips].shape, generator=generator)
        signs[clips] = values.to(signs)
    if allowed.threat.frames == "smooth":
        signs = signs[:, :1].expand_as(signs)
    return allowed.average_tied(signs).sign()


def _squares(allowed: PerturbationSet, generators: list[torch.Generator], side: int) -> Tensor:
    """Draw a square for each row: (B, 1, 1, H, W) bool."""
    height, width = allowed.clean.shape[-2:]
    masks = torch.zeros(len(generators), height, width, dtype=torch.bool)
    for mask, generator in zip(masks, generators, strict=True):
        top, left = (
            int(torch.randint(size - side + 1, (), generator=generator)) for size in (height, width)
        )
        mask[top : top + side, left : left + side] = True
    return masks.to(allowed.groups.device)[allowed.groups, None, None]
