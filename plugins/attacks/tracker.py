"""The best images of each row, over all steps and restarts of an attack on one batch.

Legend: B clips of T frames of 3 x H x W, R rows they belong to. Pixels are in gray levels, 0 to
255.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from plugins.attacks.projections import mean_absolute
from plugins.attacks.recipe import Recipe
from plugins.attacks.threat_model import PerturbationSet
from plugins.errors import InputError

# Images (B, T, 3, H, W) to the objective (R,), which is maximized, and the margin (R,), which is
# above 0 where the attack succeeds. Once rows have been excluded, a mask (R,) of the active rows
# follows the images, and both results are of these rows only.
Score = Callable[..., tuple[Tensor, Tensor]]

# Evaluations between two checks that the objective is finite; each check waits for the device.
CHECK_PERIOD = 100


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack did to one batch.

    Attributes:
        batch: the clean batch with the attacked ``images`` in place of its own.
        objective: (R,) of the attacked images.
        start: (R,) the objective where the restart that found them began.
        margin: (R,) of the attacked images; above 0 where the attack succeeded, which means that
            Rank-1 fails, unless the attack says otherwise.
        zero_gradient: (R,) bool, the gradient at the start was 0 everywhere, in all restarts: the
            attack had no direction, which says nothing about the model's robustness.
        change_from_start: (R,) mean absolute difference of a pixel between the attacked images and
            those where their restart began, gray levels: the effect of the steps, without the
            random start.
        forwards: forward passes, counted by row.
        backwards: backward passes, counted by row.
    """

    batch: dict
    objective: Tensor
    start: Tensor
    margin: Tensor
    zero_gradient: Tensor
    change_from_start: Tensor
    forwards: int
    backwards: int

    @property
    def images(self) -> Tensor:
        """The attacked images, in the shape that the batch has them."""
        return self.batch["images"]


class BestTracker:
    """Evaluates images, counts passes, and keeps the best images of each row.

    Images are better than others if they succeed and the others do not, or else if their objective
    is higher; see ``is_better``.

    Attributes:
        allowed: the images that may be tried; in a restart with selected frames, only those.
        recipe: the recipe; ``eot``, ``early_stop`` and ``skip_successful`` matter here.
        seed: seed of the random draws.
        restart: number of the restart, from 0.
        active: (R,) bool, rows that still take part.
        forwards: forward passes so far, counted by row.
        backwards: backward passes, likewise.
    """

    def __init__(
        self,
        score: Score,
        allowed: PerturbationSet,
        recipe: Recipe,
        seed: int = 0,
        success_first: bool = True,
        name: str = "attack",
    ) -> None:
        """Track the ``score`` of images in ``allowed``; ``begin`` comes before the first image.

        Args:
            score: see ``Score``; the result for a row must not depend on the other active rows.
            allowed: the perturbation set.
            recipe: see the attribute.
            seed: likewise.
            success_first: see ``is_better``.
            name: of the attack, for messages.
        """
        self._name = name
        self.score, self.recipe, self.seed, self.success_first = score, recipe, seed, success_first
        self.allowed = self._whole = allowed
        self.restart = self.forwards = self.backwards = 0
        self.active = torch.ones(len(allowed.rows), dtype=torch.bool, device=allowed.groups.device)
        self._active_rows = len(allowed.rows)
        self._empty = True
        self._zero_gradient = torch.ones_like(self.active)
        self._unchecked: list[Tensor] = []
        self._restart_images: Tensor | None = None
        self._improved: Tensor | None = None
        self._unknown_gradient: Tensor | None = None

    @property
    def finished(self) -> bool:
        """Whether no row is active."""
        return not self._active_rows

    def begin(self, restart: int) -> None:
        """Begin a restart; with ``early_stop`` successful rows take no part in it.

        Raises:
            InputError: the objective was not finite in the restart before.
        """
        if restart:
            self._close_restart()
            if self.recipe.early_stop and self.success_first:
                self._exclude_successful()
        self.restart, self.allowed = restart, self._whole
        self._restart_images = None  # where the restart began
        self._improved = None  # (R,) rows whose best images are of this restart
        # Known after the first gradient; without any gradient it is False.
        self._unknown_gradient = self._zero_gradient & self.active
        self._zero_gradient = self._zero_gradient & ~self.active

    @torch.no_grad()
    def evaluate(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate images (B, T, 3, H, W): objective (R,) and margin (R,).

        An inactive row gets the values of its best images.
        """
        if self.finished:
            return self._objective, self._margin
        scores = [self._ask(images) for _ in range(self.recipe.eot)]
        return self._remember(images, scores)

    def gradient(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate images (B, T, 3, H, W) with their gradient, of the same shape.

        Returns:
            Gradient and objective (R,). An inactive row gets a gradient of 0 and the objective of
            its best images.

        Raises:
            InputError: the objective does not depend on the images, or not differentiably.
        """
        images = images.detach()
        if self.finished:
            return torch.zeros_like(images), self._objective
        gradient, scores = self._differentiate(images)
        if self._unknown_gradient is not None:
            zero = self.allowed.row_norms(gradient) == 0
            self._zero_gradient = self._zero_gradient | (self._unknown_gradient & zero)
            self._unknown_gradient = None
        return gradient, self._remember(images, scores)[0]

    def probe(self, images: Tensor) -> Tensor:
        """Compute the gradient at images (B, T, 3, H, W) that do not count as evaluated."""
        return self._differentiate(images.detach())[0]

    def result(self) -> AttackResult:
        """Return the best images of each row.

        Raises:
            InputError: the objective was not finite.
        """
        self._close_restart()
        clean, groups, rows = self._whole.clean, self._whole.groups, len(self._whole.rows)
        images = self._images
        if images.data_ptr() == clean.data_ptr():
            images = images.clone()  # the caller may change them, but not the clean batch
        batch = self._whole.batch
        return AttackResult(
            batch={**batch, "images": images.view(batch["images"].shape)},
            objective=self._objective,
            start=self._start,
            margin=self._margin,
            zero_gradient=self._zero_gradient,
            change_from_start=mean_absolute(images - self._start_images, groups, rows),
            forwards=self.forwards,
            backwards=self.backwards,
        )

    def _differentiate(self, images: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Compute the gradient, averaged over ``eot`` passes, and the scores of each pass."""
        total: Tensor | None = None
        scores = []
        images.requires_grad_()
        for _ in range(self.recipe.eot):
            with torch.enable_grad():
                objective, margin = self._ask(images)
                gradient = gradient_of(objective.sum(), images)
            total = gradient if total is None else total + gradient
            scores.append((objective.detach(), margin.detach()))
        images.requires_grad_(False)
        self.backwards += self.recipe.eot * self._active_rows
        assert total is not None
        return total / self.recipe.eot, scores

    def _ask(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Score the active rows once; the others keep the values of their best images."""
        self.forwards += self._active_rows
        if self._active_rows == len(self.active):
            return self.score(images)
        objective, margin = self.score(images, self.active)
        return (
            self._objective.masked_scatter(self.active, objective),
            self._margin.masked_scatter(self.active, margin),
        )

    def _remember(
        self, images: Tensor, scores: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Keep images where they are better; return objective and margin, the mean over passes."""
        objective, margin = scores[0]
        if len(scores) > 1:
            objective, margin = (
                torch.stack(values).mean(dim=0) for values in zip(*scores, strict=True)
            )
        self._unchecked.append(objective)
        if len(self._unchecked) == CHECK_PERIOD:
            self._check_finite()
        if self._restart_images is None:
            self._restart_images, self._restart_start = images, objective
        if self._empty:
            self._images, self._objective, self._margin = images, objective, margin
            self._empty = False
        else:
            self._keep_better(images, objective, margin)
        if self.recipe.skip_successful:
            self._exclude_successful()
        return objective, margin

    def _keep_better(self, images: Tensor, objective: Tensor, margin: Tensor) -> None:
        better = is_better(objective, margin, self._objective, self._margin, self.success_first)
        self._images = torch.where(self.allowed.expand_rows(better), images, self._images)
        self._objective = torch.where(better, objective, self._objective)
        self._margin = torch.where(better, margin, self._margin)
        if self.restart:
            self._improved = better if self._improved is None else self._improved | better

    def _exclude_successful(self) -> None:
        active = self._margin <= 0
        if not torch.equal(active, self.active):
            self.active, self._active_rows = active, int(active.sum())

    def _close_restart(self) -> None:
        """Note where the restart began, for the rows whose best images it found."""
        self._check_finite()
        if self._restart_images is None:
            return
        if self._improved is None:
            if not self.restart:
                self._start, self._start_images = self._restart_start, self._restart_images
        else:
            clips = self._whole.expand_rows(self._improved)
            self._start = torch.where(self._improved, self._restart_start, self._start)
            self._start_images = torch.where(clips, self._restart_images, self._start_images)
        self._restart_images = None

    def _check_finite(self) -> None:
        if not self._unchecked:
            return
        finite = torch.stack(self._unchecked).isfinite().all(dim=0).cpu()
        self._unchecked.clear()
        if not finite.all():
            rows = self._whole.rows[~finite].tolist()
            raise InputError(f"{self._name}: the objective is NaN or infinite for rows {rows[:5]}")


def gradient_of(objective: Tensor, images: Tensor) -> Tensor:
    """Differentiate a scalar with respect to the images, or to a perturbation of them.

    Raises:
        InputError: the scalar does not depend on them, or not differentiably.
    """
    gradient = None
    if objective.requires_grad:
        (gradient,) = torch.autograd.grad(objective, images, allow_unused=True)
    if gradient is None:
        raise InputError(
            "attack: the features have no gradient with respect to the images; expected a model "
            "that computes them differentiably, without torch.no_grad or detach"
        )
    return gradient


def is_better(
    objective: Tensor,
    margin: Tensor,
    best_objective: Tensor,
    best_margin: Tensor,
    success_first: bool = True,
) -> Tensor:
    """Compare images with the best ones, row by row.

    Args:
        objective: (R,).
        margin: (R,), above 0 where the images succeed.
        best_objective: (R,).
        best_margin: (R,).
        success_first: prefer images that succeed to those that do not, and then the higher
            objective; else the objective alone decides.

    Returns:
        (R,) bool.
    """
    if not success_first:
        return objective > best_objective
    successful, was_successful = margin > 0, best_margin > 0
    higher = (successful == was_successful) & (objective > best_objective)
    return (successful & ~was_successful) | higher
