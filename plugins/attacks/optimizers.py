"""Ascent of an objective over the images that a threat model allows, each row by itself.

Legend: B clips of T frames of 3 x H x W, R rows they belong to. Pixels in 0-255 units.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from plugins.attacks.black_box.square import climb_by_squares
from plugins.attacks.projections import mean_size
from plugins.attacks.threat_model import Region
from plugins.errors import InputError
from plugins.utils.random import item_generator

# Images (B, T, 3, H, W) to the objective (R,), which is maximised, and the margin (R,), which is
# above 0 where the attack has reached its aim. With ``drop_solved`` it is also called with a mask
# (R,), and then gives both of these rows only.
Score = Callable[..., tuple[Tensor, Tensor]]

# APGD: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
# parameter-free attacks", ICML 2020, section 3.
FIRST_STEP = 2.0  # eta(0), in eps
PULL = 0.75  # alpha: weight of the new direction; the rest is momentum
RHO = 0.75  # the step stays if at least this share of the steps rose


@dataclass(frozen=True)
class Recipe:
    """How the objective is climbed.

    Attributes:
        optimizer: "sign" for steps of one length: FGSM, I-FGSM, MI-FGSM, PGD; "apgd"; or "square",
            without gradients.
        steps: gradient steps of a restart; of "square" the forward passes.
        step_size: length of a step in the threat's norm, 0-255 units; "apgd" has its own.
        random_start: start from a random point of the budget, not from the clean images. Restarts
            after the first always do.
        momentum: mu of MI-FGSM; 0 for none.
        restarts: climbs from different starts, of which each row keeps the best.
        eot: forward passes whose scores and gradients are averaged, for a model that draws
            (expectation over transformation).
        stop_when_solved: rows with a margin above 0 take no part in further restarts.
        drop_solved: nor in further steps. It saves most of the work on a weak model, but leaves the
            objective where Rank-1 first fails: for attacks on nothing but Rank-1.
    """

    optimizer: str = "sign"
    steps: int = 1
    step_size: float = 1.0
    random_start: bool = False
    momentum: float = 0.0
    restarts: int = 1
    eot: int = 1
    stop_when_solved: bool = False
    drop_solved: bool = False

    @property
    def reach(self) -> float:
        """Steps of one length together, in the units of the norm; infinite where it varies."""
        return self.steps * self.step_size if self.optimizer == "sign" else math.inf


@dataclass(frozen=True)
class Climb:
    """What a climb found, the best of each row, see ``is_better``.

    Attributes:
        images: (B, T, 3, H, W).
        objective: (R,).
        start: (R,) the objective where the climb began.
        margin: (R,).
        stuck: (R,) bool, the gradient at the start was 0 everywhere: the attack had no direction,
            which says nothing about the model's robustness.
        forwards: forward passes of a row, over all rows.
        backwards: backward passes of a row, over all rows.
        travelled: (R,) mean absolute difference of a pixel between the images and those where the
            climb began, 0-255 units: what the steps did, without the random start.
    """

    images: Tensor
    objective: Tensor
    start: Tensor
    margin: Tensor
    stuck: Tensor
    forwards: int
    backwards: int
    travelled: Tensor


def maximise(
    score: Score,
    region: Region,
    recipe: Recipe,
    seed: int,
    restart: int = 0,
    solved_first: bool = True,
) -> Climb:
    """Climb once.

    Args:
        score: of images; it must treat each row by itself.
        region: where the images may lie, and from where the climb starts.
        recipe: how; its ``restarts`` are the caller's affair.
        seed: of the random start.
        restart: number of this climb; each has another random start.
        solved_first: as for ``is_better``.

    Returns:
        The best images that were seen, the start included.

    Raises:
        InputError: the objective is not finite.
    """
    start = region.clean
    if recipe.random_start or restart:
        start = region.random(seed, restart)
    probe = Explorer(score, region, recipe.eot)
    if not region.settled:
        if recipe.optimizer in GRADIENT_FREE:  # any frames
            region = region.settle(region.random(seed, restart) - region.clean)
        else:
            region = region.settle(probe.gradient(start)[0])
        start = region.project(start)
    explorer = Explorer(
        score, region, recipe.eot, recipe.drop_solved, (seed, restart), solved_first
    )
    OPTIMIZERS[recipe.optimizer](explorer, start, recipe)
    return explorer.climb(probe.forwards, probe.backwards)


class Explorer:
    """Looks at images, counts, and remembers the best of each row."""

    def __init__(
        self,
        score: Score,
        region: Region,
        eot: int,
        drop_solved: bool = False,
        seeds: tuple[int, ...] = (0,),
        solved_first: bool = True,
    ) -> None:
        """Nothing is seen yet."""
        self.score, self.region, self.eot = score, region, eot
        self.drop_solved, self.seeds, self.solved_first = drop_solved, seeds, solved_first
        self.forwards = self.backwards = 0
        self.images: Tensor | None = None
        self._first: Tensor | None = None
        self.left = torch.ones_like(region.rows, dtype=torch.bool)
        # Known after the first gradient; without one nothing is ever stuck.
        self.stuck, self._started = torch.zeros_like(self.left), False

    def climb(self, forwards: int = 0, backwards: int = 0) -> Climb:
        """What was found, with so many passes made before."""
        return Climb(
            images=self.images,
            objective=self.objective,
            start=self.start,
            margin=self.margin,
            stuck=self.stuck,
            forwards=forwards + self.forwards,
            backwards=backwards + self.backwards,
            travelled=mean_size(self.images - self._first, self.region.groups),
        )

    @property
    def finished(self) -> bool:
        """No row is left to be looked at."""
        return not self.left.any()

    def generators(self) -> list[torch.Generator]:
        """A generator for each row, whose draws depend on the seeds and the row's name alone."""
        return [item_generator(*self.seeds, row) for row in self.region.rows.tolist()]

    @torch.no_grad()
    def look(self, images: Tensor) -> Tensor:
        """The objective (R,) of images (B, T, 3, H, W); of a dropped row its best."""
        if self.finished:
            return self.objective
        scores = [self._ask(images) for _ in range(self.eot)]
        self.forwards += self.eot * int(self.left.sum())
        return self._remember(images, scores)

    def gradient(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient (B, T, 3, H, W) and the objective (R,) at images (B, T, 3, H, W).

        Of a dropped row they are 0 and its best.
        """
        images = images.detach().requires_grad_()
        total, scores = torch.zeros_like(images), []
        if self.finished:
            return total, self.objective
        for _ in range(self.eot):
            with torch.enable_grad():
                objective, margin = self._ask(images)
                total += torch.autograd.grad(objective.sum(), images)[0]
            scores.append((objective.detach(), margin.detach()))
        self.forwards += self.eot * int(self.left.sum())
        self.backwards += self.eot * int(self.left.sum())
        gradient = total / self.eot
        if not self._started:
            self.stuck, self._started = self.region.row_norms(gradient) == 0, True
        return gradient, self._remember(images.detach(), scores)

    def _ask(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Objective and margin (R,), asked for the rows that are left."""
        if self.left.all():
            return self.score(images)
        objective, margin = self.score(images, self.left)
        return (
            self.objective.masked_scatter(self.left, objective),
            self.margin.masked_scatter(self.left, margin),
        )

    def _remember(self, images: Tensor, scores: list[tuple[Tensor, Tensor]]) -> Tensor:
        objective, margin = (
            torch.stack(column).mean(dim=0) for column in zip(*scores, strict=True)
        )
        if not objective.isfinite().all():
            rows = self.region.rows[~objective.isfinite()].tolist()
            raise InputError(f"attack: the objective is NaN or infinite for rows {rows[:5]}")
        if self.images is None:
            self.images, self.objective, self.margin = images, objective, margin
            self._first, self.start = images, objective
        found, best = (objective, margin), (self.objective, self.margin)
        better = is_better(*found, *best, self.solved_first)
        self.images = torch.where(self.region.spread(better), images, self.images)
        self.objective = torch.where(better, objective, self.objective)
        self.margin = torch.where(better, margin, self.margin)
        if self.drop_solved:
            self.left = self.margin <= 0
        return objective


def is_better(
    objective: Tensor, margin: Tensor, than: Tensor, than_margin: Tensor, solved_first: bool = True
) -> Tensor:
    """(R,) bool: solved before not solved, then by objective; or by objective alone."""
    if not solved_first:
        return objective > than
    solved, was_solved = margin > 0, than_margin > 0
    return (solved & ~was_solved) | ((solved == was_solved) & (objective > than))


def climb_by_sign(explorer: Explorer, images: Tensor, recipe: Recipe) -> None:
    """Steps of one length along the gradient, or along its running sum.

    FGSM (Goodfellow et al., arXiv 1412.6572), I-FGSM (Kurakin et al., arXiv 1607.02533), PGD (Madry
    et al., arXiv 1706.06083); MI-FGSM (Dong et al., arXiv 1710.06081): g <- mu g + grad / |grad|_1.
    """
    region, direction = explorer.region, 0.0
    for _ in range(recipe.steps):
        if explorer.finished:
            return
        gradient, _ = explorer.gradient(images)
        if recipe.momentum:
            gradient = direction = recipe.momentum * direction + region.unit_l1(gradient)
        images = region.project(images + recipe.step_size * region.steepest(gradient))
    explorer.look(images)


def climb_by_apgd(explorer: Explorer, images: Tensor, recipe: Recipe) -> None:
    """APGD: momentum, and per row a step that is halved when the objective stops rising.

    At each checkpoint a row halves its step, and goes on from its best images, if fewer than RHO of
    its steps rose, or if neither its step nor its best objective changed since the checkpoint
    before. The way back to its best images is then its momentum, as in the paper's algorithm 1.
    """
    region, marks = explorer.region, checkpoints(recipe.steps)
    gradient, objective = explorer.gradient(images)
    before, top, top_gradient, top_objective = images, images, gradient, objective
    step = images.new_full(objective.shape, FIRST_STEP * region.threat.eps)
    rises, halved, last_mark = torch.zeros_like(step), torch.ones_like(step, dtype=torch.bool), 0
    last_top = top_objective
    for index in range(1, recipe.steps + 1):
        target = region.project(images + region.spread(step) * region.steepest(gradient))
        pull = PULL if index > 1 else 1.0
        target = images + pull * (target - images) + (1 - pull) * (images - before)
        before, images = images, region.project(target)
        last_objective = objective
        if index == recipe.steps or explorer.finished:
            explorer.look(images)
            return
        gradient, objective = explorer.gradient(images)
        rises += objective > last_objective
        higher = objective > top_objective
        top_objective = torch.where(higher, objective, top_objective)
        top = torch.where(region.spread(higher), images, top)
        top_gradient = torch.where(region.spread(higher), gradient, top_gradient)
        if index in marks:
            few = rises < RHO * (index - last_mark)
            halved = few | (~halved & (top_objective == last_top))
            again = region.spread(halved)
            step = torch.where(halved, step / 2, step)
            images = torch.where(again, top, images)
            gradient = torch.where(again, top_gradient, gradient)
            objective = torch.where(halved, top_objective, objective)
            rises, last_mark, last_top = torch.zeros_like(rises), index, top_objective


def checkpoints(steps: int) -> list[int]:
    """The steps after which APGD looks at its progress.

    They are w_j = ceil(p_j steps), with p_0 = 0, p_1 = .22 and
    p_(j+1) = p_j + max(p_j - p_(j-1) - .03, .06).

    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    before, percent, marks = 0, 22, []
    while percent < 100:
        marks.append(-(-percent * steps // 100))
        before, percent = percent, percent + max(percent - before - 3, 6)
    return marks


OPTIMIZERS = {"sign": climb_by_sign, "apgd": climb_by_apgd, "square": climb_by_squares}
GRADIENT_FREE = ("square",)
