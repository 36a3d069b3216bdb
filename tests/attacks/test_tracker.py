"""The best images of each row over steps and restarts, beside a loop over plain numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import plugins.attacks.guides
from plugins.attacks import BestTracker, PerturbationSet, Recipe, ThreatModel
from plugins.attacks.per_query import FNA
from plugins.errors import InputError
from tests.helpers.attack_toys import clips, features_of, guides_of

ROWS, STEPS = 3, 4


def scored(table):
    """A score that looks images up: each has the number of its evaluation as its gray level."""

    def score(images, active=None):
        number = int(images.max())
        objective, margin = table[number].unbind(dim=1)
        kept = slice(None) if active is None else active
        return objective[kept], margin[kept]

    return score


def tracker_of(table, recipe, success_first=True):
    clean = torch.zeros(ROWS, 1, 3, 2, 2)
    allowed = PerturbationSet(ThreatModel(eps=255.0), {"images": clean})
    return BestTracker(scored(table), allowed, recipe, success_first=success_first)


def images_of(number):
    return torch.full((ROWS, 1, 3, 2, 2), float(number))


def better(values, best, success_first):
    """Whether (objective, margin) beats the best so far."""
    if best is None:
        return True
    if success_first and (values[1] > 0) != (best[1] > 0):
        return values[1] > 0
    return values[0] > best[0]


# Few values, so that rows tie.
values = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 2.0]), st.sampled_from([-1.0, 0.0, 1.0])),
    min_size=3 * STEPS * ROWS,
    max_size=3 * STEPS * ROWS,
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(values, st.booleans(), st.booleans(), st.booleans())
def test_it_keeps_what_a_loop_over_rows_keeps(table, early_stop, skip, success_first):
    early_stop = early_stop or skip
    table = torch.tensor(table).view(3 * STEPS, ROWS, 2)
    recipe = Recipe(restarts=3, early_stop=early_stop, skip_successful=skip)
    tracker = tracker_of(table, recipe, success_first or skip)
    success_first = tracker.success_first
    for restart in range(3):
        tracker.begin(restart)
        if tracker.finished:
            break
        for step in range(STEPS):
            tracker.evaluate(images_of(restart * STEPS + step))
    result = tracker.result()
    forwards = 0
    for row in range(ROWS):
        best, best_number, start_number = None, None, None
        for number in range(3 * STEPS):
            done = best is not None and best[1] > 0
            starts = number % STEPS == 0
            if done and success_first and (skip or (early_stop and starts)):
                break
            forwards += 1
            found = table[number, row].tolist()
            if better(found, best, success_first):
                best, best_number, start_number = found, number, number - number % STEPS
        assert result.images[row].unique().tolist() == [best_number]
        assert [result.objective[row], result.margin[row]] == best
        assert result.start[row] == table[start_number, row, 0]
        assert result.change_from_start[row] == best_number - start_number
    assert result.forwards == forwards and result.backwards == 0


def test_a_gradient_of_0_counts_only_if_no_restart_has_another():
    slopes = {0: [0.0, 0.0, 1.0], 1: [0.0, 1.0, 0.0]}

    def score(images, active=None):
        restart = tracker.restart
        values = (images.flatten(1).mean(dim=1)) * torch.tensor(slopes[restart])
        return values, torch.zeros(ROWS)

    allowed = PerturbationSet(ThreatModel(), {"images": torch.zeros(ROWS, 1, 3, 2, 2)})
    tracker = BestTracker(score, allowed, Recipe(restarts=2))
    for restart in range(2):
        tracker.begin(restart)
        tracker.gradient(images_of(0))
        tracker.gradient(images_of(1))
    assert tracker.result().zero_gradient.tolist() == [True, False, False]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_objective_that_is_not_finite_is_told_at_the_latest_at_the_end_of_a_restart(value):
    table = torch.zeros(2, ROWS, 2)
    table[1, 2, 0] = value
    tracker = tracker_of(table, Recipe(restarts=2))
    tracker.begin(0)
    tracker.evaluate(images_of(0))
    tracker.evaluate(images_of(1))
    with pytest.raises(InputError, match=r"NaN or infinite for rows \[2\]"):
        tracker.begin(1)


def test_the_result_may_be_changed_without_the_clean_batch():
    batch = {"images": torch.zeros(ROWS, 3, 2, 2)}
    allowed = PerturbationSet(ThreatModel(), batch)
    tracker = BestTracker(lambda images: 2 * [torch.zeros(ROWS)], allowed, Recipe())
    tracker.begin(0)
    tracker.evaluate(allowed.clean)
    tracker.result().images.add_(1)
    assert not batch["images"].any()


def test_gallery_and_targets_are_computed_once_for_all_steps(monkeypatch):
    batch, grids, reaches = clips(), [], []
    guides = guides_of(batch)
    to_grid, squares = plugins.attacks.guides.on_cosine_grid, FNA.objective.__globals__
    monkeypatch.setattr(
        plugins.attacks.guides, "on_cosine_grid", lambda f: grids.append(f) or to_grid(f)
    )
    farthest = squares["_farthest_centroids"]
    monkeypatch.setitem(squares, "_farthest_centroids", lambda g: reaches.append(g) or farthest(g))
    asked = []

    def counted(some):
        asked.append(len(some["images"]))
        return features_of(some)

    FNA(ThreatModel(), Recipe("apgd", steps=10, restarts=2)).run(counted, batch, guides)
    assert len(grids) == len(reaches) == 1
    assert asked == 2 * 11 * [len(batch["images"])]
