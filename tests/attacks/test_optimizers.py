import math

import pytest
import torch

from plugins.attacks import PerturbationSet, Recipe, ThreatModel
from plugins.attacks.optimizers import checkpoints
from plugins.errors import InputError
from tests.helpers.attack_toys import GRAY, ROWS, clips, maximize_once, recorded, waves


def region_of(norm="linf", eps=8.0, images=GRAY, **batch):
    return PerturbationSet(ThreatModel(norm, eps), {"images": images, **batch})


def foolbox_iterates(attack_class, score, images, eps, **arguments):
    """Every iterate of one of foolbox's attacks with our objective, in 0-255 units."""
    foolbox = pytest.importorskip("foolbox")
    import eagerpy

    seen = []

    class Attack(getattr(foolbox.attacks, attack_class)):
        def get_loss_fn(self, model, labels):
            def loss_fn(inputs):
                seen.append(inputs.raw.detach().clone())
                return eagerpy.astensor(score(inputs.raw)[0].sum())

            return loss_fn

    model = foolbox.PyTorchModel(torch.nn.Flatten().eval(), bounds=(0, 255))
    labels = foolbox.criteria.Misclassification(torch.zeros(len(images), dtype=torch.long))
    attack = Attack(**arguments, random_start=False)
    final = attack.run(model, images, labels, epsilon=eps)
    return [*seen, final]


@pytest.mark.parametrize(
    ("norm", "attack_class"),
    [
        ("linf", "LinfProjectedGradientDescentAttack"),
        ("l2", "L2ProjectedGradientDescentAttack"),
    ],
)
def test_every_step_is_foolboxs(norm, attack_class):
    images = clips(people=2)["images"].double()
    score, eps, steps, size = waves(0, images), 8.0, 12, 2.0
    recording, ours = recorded(score)
    recipe = Recipe(steps=steps, step_size=size)
    maximize_once(recording, region_of(norm, eps, images), recipe, seed=0)
    theirs = foolbox_iterates(attack_class, score, images, eps, abs_stepsize=size, steps=steps)
    assert len(ours) == len(theirs) == steps + 1
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-9, rtol=0)  # of 255


def pgd_by_hand(score, clean, eps, size, steps, momentum):
    point, direction = clean.clone(), torch.zeros_like(clean)
    for _ in range(steps):
        point.requires_grad_()
        gradient = torch.autograd.grad(score(point)[0].sum(), point)[0]
        for row in range(len(clean)):
            direction[row] = momentum * direction[row] + gradient[row] / gradient[row].abs().sum()
        point = point.detach() + size * direction.sign()
        point = torch.max(torch.min(point, clean + eps), clean - eps).clamp(0, 255)
        yield point


@pytest.mark.parametrize("momentum", [0.0, 0.7, 1.0])
def test_every_step_is_the_one_by_hand(momentum):
    score = waves(3)
    recording, ours = recorded(score)
    maximize_once(
        recording, region_of(), Recipe(steps=10, step_size=1.5, momentum=momentum), seed=0
    )
    theirs = pgd_by_hand(score, GRAY, 8.0, 1.5, 10, momentum)
    for mine, reference in zip(ours[1:], theirs, strict=True):
        assert torch.equal(mine, reference)


def apgd_by_hand(score, clean, eps, steps):
    """Algorithm 1 of Croce and Hein for one row, with plain numbers; the points it looks at."""

    def look(point):
        point = point.clone().requires_grad_()
        value = score(point)[0].sum()
        return value.item(), torch.autograd.grad(value, point)[0]

    def clip(point):
        return torch.max(torch.min(point, clean + eps), clean - eps).clamp(0, 255)

    share, marks = [0.0, 0.22], []
    while share[-1] < 1:
        share.append(share[-1] + max(share[-1] - share[-2] - 0.03, 0.06))
        marks.append(math.ceil(round(share[-2] * steps, 6)))
    step, point = 2 * eps, clean.clone()
    value, gradient = look(point)
    before, best, best_value, best_gradient = point, point, value, gradient
    rises, mark, mark_value, halved = 0, 0, value, True
    points = [point]
    for index in range(1, steps + 1):
        pull = 0.75 if index > 1 else 1.0
        aim = clip(point + step * gradient.sign())
        before, point = point, clip(point + pull * (aim - point) + (1 - pull) * (point - before))
        points.append(point)
        was, (value, gradient) = value, look(point)
        rises += value > was
        if value > best_value:
            best, best_value, best_gradient = point, value, gradient
        if index in marks:
            stalled = not halved and best_value == mark_value
            halved = rises < 0.75 * (index - mark) or stalled
            if halved:
                step /= 2
                point = best
                value, gradient = best_value, best_gradient
            rises, mark, mark_value = 0, index, best_value
    return points, best_value


@pytest.mark.parametrize("seed", range(3))
def test_apgd_is_the_algorithm_row_by_row(seed):
    score, clean = waves(seed), GRAY + torch.arange(ROWS).view(-1, 1, 1, 1, 1)
    recording, ours = recorded(score)
    result = maximize_once(recording, region_of(images=clean), Recipe("apgd", steps=40), seed=0)
    for row in range(ROWS):
        points, value = apgd_by_hand(score, clean[row : row + 1], 8.0, 40)
        for mine, reference in zip(ours, points, strict=True):
            torch.testing.assert_close(mine[row : row + 1], reference, atol=1e-3, rtol=0)
        assert result.objective[row] == pytest.approx(value, abs=1e-4)


def test_checkpoints_are_those_of_the_paper():
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == [1] * 8


def test_the_best_iterate_is_returned_not_the_last():
    def score(points):  # a summit at 101 that steps of 5 jump over
        values = -(points - 101).square().flatten(1).sum(dim=1)
        return values, values.detach()

    recording, seen = recorded(score)
    result = maximize_once(recording, region_of(), Recipe(steps=3, step_size=5.0), seed=0)
    assert torch.equal(result.images, GRAY)
    last = score(seen[-1])[0]
    assert (result.objective > last).all()


def test_a_successful_iterate_is_kept_over_a_higher_one():
    def score(points):
        values = points.flatten(1).mean(dim=1)
        return values, torch.where(values == 102, 1.0, -1.0)

    result = maximize_once(score, region_of(), Recipe(steps=6, step_size=1.0), seed=0)
    assert (result.objective == 102).all() and (result.margin == 1).all()


def test_a_gradient_of_zero_everywhere_is_reported():
    def score(points):
        values = (points - GRAY).square().flatten(1).sum(dim=1)
        return values, values.detach()

    still = maximize_once(score, region_of(), Recipe(steps=5), seed=0)
    assert still.zero_gradient.all() and torch.equal(still.images, GRAY)
    moving = maximize_once(score, region_of(), Recipe(steps=5, random_start=True), seed=0)
    assert not moving.zero_gradient.any() and (moving.objective > 0).all()


def test_an_objective_that_is_not_finite_names_its_rows():
    def score(points):
        values = points.flatten(1).mean(dim=1) / torch.tensor([1.0, 0.0, 1.0, 0.0])
        return values, values.detach()

    with pytest.raises(InputError, match=r"NaN or infinite for rows \[21, 23\]"):
        rows = torch.tensor([20, 21, 22, 23])
        maximize_once(score, region_of(rows=rows), Recipe(), seed=0)


@pytest.mark.parametrize(("recipe", "expected"), [("sign", 6), ("apgd", 6)])
def test_passes_are_counted_by_row(recipe, expected):
    asked = []

    def score(points):
        asked.append(torch.is_grad_enabled())
        values = points.flatten(1).mean(dim=1)
        return values, values.detach()

    result = maximize_once(score, region_of(), Recipe(recipe, steps=5, eot=3), seed=0)
    assert (result.forwards, result.backwards) == (3 * expected * ROWS, 3 * 5 * ROWS)
    assert (len(asked), sum(asked)) == (3 * expected, 3 * 5)


def test_averaging_over_a_models_draws_finds_the_direction_that_one_draw_hides():
    truth = torch.ones_like(GRAY)

    def score(points):  # a rise along ``truth``, under a slope that is drawn anew for each pass
        noise = 4 * torch.randn(GRAY.shape)
        values = ((points - GRAY) * (truth + noise)).flatten(1).sum(dim=1)
        return values, values.detach()

    def agreement(eot):
        torch.manual_seed(0)
        recording, seen = recorded(score)
        maximize_once(recording, region_of(), Recipe(steps=1, step_size=1.0, eot=eot), seed=0)
        return (seen[-1] - GRAY).sign().eq(truth).float().mean()

    assert agreement(1) < 0.75
    assert agreement(200) == 1


@pytest.mark.slow
def test_sparse_frames_are_selected_where_the_restart_begins():
    images = clips(people=1)["images"]
    slopes = torch.tensor([1.0, 5.0, 3.0]).view(1, 3, 1, 1, 1)

    def score(points):
        values = (points * slopes).flatten(1).sum(dim=1)
        return values, values.detach()

    threat = ThreatModel(frames="sparse", sparse_frames=1)
    recipe = Recipe(steps=4, step_size=4.0, random_start=True)
    result = maximize_once(score, PerturbationSet(threat, {"images": images}), recipe, seed=0)
    moved = (result.images - images).abs().amax(dim=(2, 3, 4)) > 0
    assert moved.tolist() == [[False, True, False]] * 2
    assert result.backwards == 2 * (4 + 1)
