"""Optimizers that maximize an objective over the images of a perturbation set, row by row.

Each evaluates images through a ``BestTracker``, which keeps the best ones. Legend: B clips of T
frames of 3 x H x W, R rows they belong to. Pixels are in gray levels, 0 to 255.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from plugins.attacks.square import square
from plugins.attacks.tracker import BestTracker
from plugins.errors import InputError
from plugins.utils.values import shortened

# APGD: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
# parameter-free attacks", ICML 2020, section 3.
FIRST_STEP = 2.0  # eta(0), in eps
PULL = 0.75  # alpha: weight of the new direction; the rest is momentum
RHO = 0.75  # the step size stays if at least this share of the steps raised the objective


def maximize(tracker: BestTracker) -> None:
    """Run one restart of the tracker's recipe.

    The restart begins at the clean images or at a random point. Where the threat model perturbs
    only some frames, they are selected by the gradient at that point, or, for an optimizer without
    gradients, at random.

    Raises:
        InputError: there is no such optimizer, it does not support the norm, or the objective has
            no gradient.
    """
    recipe, allowed = tracker.recipe, tracker.allowed
    if recipe.optimizer not in OPTIMIZERS:
        raise InputError(
            f"Recipe: optimizer {shortened(recipe.optimizer)}; expected {', '.join(OPTIMIZERS)}"
        )
    start = allowed.clean
    if recipe.random_start or tracker.restart:
        start = allowed.random_point(tracker.seed, tracker.restart)
    if not allowed.frames_selected:
        if recipe.optimizer in GRADIENT_FREE:
            random_point = allowed.random_point(tracker.seed, tracker.restart)
            tracker.allowed = allowed.select_frames(random_point - allowed.clean)
        else:
            tracker.allowed = allowed.select_frames(tracker.probe(start))
        start = tracker.allowed.project(start)
    OPTIMIZERS[recipe.optimizer](tracker, start)


def signed_steps(tracker: BestTracker, images: Tensor) -> None:
    """Take steps of one length along the gradient, or along its running sum.

    FGSM (Goodfellow et al., arXiv 1412.6572), I-FGSM (Kurakin et al., arXiv 1607.02533), PGD (Madry
    et al., arXiv 1706.06083); MI-FGSM (Dong et al., arXiv 1710.06081): g <- mu g + grad / |grad|_1.
    For L2 the sign gives way to the direction of the gradient.
    """
    allowed, recipe = tracker.allowed, tracker.recipe
    running: Tensor | float = 0.0
    for _ in range(recipe.steps):
        if tracker.finished:
            return
        gradient, _ = tracker.gradient(images)
        if recipe.momentum:
            gradient = running = recipe.momentum * running + allowed.unit_l1(gradient)
        step = recipe.step_size * allowed.steepest_direction(gradient)
        images = allowed.project(images + step)
    tracker.evaluate(images)


def apgd(tracker: BestTracker, images: Tensor) -> None:
    """Take steps with momentum, halving a row's step size when its objective stops rising.

    At each checkpoint a row halves its step size, and continues from its best images, if fewer than
    RHO of its steps raised the objective, or if neither its step size nor its best objective
    changed since the checkpoint before. The way back to its best images then acts as its momentum,
    as in the paper's algorithm 1.
    """
    allowed, steps = tracker.allowed, tracker.recipe.steps
    marks = checkpoints(steps)
    gradient, objective = tracker.gradient(images)
    before, top, top_gradient, top_objective = images, images, gradient, objective
    step = images.new_full(objective.shape, FIRST_STEP * allowed.threat.eps)
    rises, halved, last_mark = torch.zeros_like(step), torch.ones_like(step, dtype=torch.bool), 0
    last_top = top_objective
    for index in range(1, steps + 1):
        target = images + allowed.expand_rows(step) * allowed.steepest_direction(gradient)
        target = allowed.project(target)
        pull = PULL if index > 1 else 1.0
        target = images + pull * (target - images) + (1 - pull) * (images - before)
        before, images = images, allowed.project(target)
        last_objective = objective
        if index == steps or tracker.finished:
            tracker.evaluate(images)
            return
        gradient, objective = tracker.gradient(images)
        rises += objective > last_objective
        higher = objective > top_objective
        top_objective = torch.where(higher, objective, top_objective)
        top = torch.where(allowed.expand_rows(higher), images, top)
        top_gradient = torch.where(allowed.expand_rows(higher), gradient, top_gradient)
        if index in marks:
            few = rises < RHO * (index - last_mark)
            halved = few | (~halved & (top_objective == last_top))
            back = allowed.expand_rows(halved)
            step = torch.where(halved, step / 2, step)
            images = torch.where(back, top, images)
            gradient = torch.where(back, top_gradient, gradient)
            objective = torch.where(halved, top_objective, objective)
            rises, last_mark, last_top = torch.zeros_like(rises), index, top_objective


def checkpoints(steps: int) -> list[int]:
    """List the steps after which APGD reviews its progress.

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


Optimizer = Callable[[BestTracker, Tensor], None]
OPTIMIZERS: dict[str, Optimizer] = {"sign": signed_steps, "apgd": apgd, "square": square}
GRADIENT_FREE = ("square",)
