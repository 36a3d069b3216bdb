"""A task's scores and guides, against slow twins."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.attacks import Guides, ThreatModel, build_attack
from plugins.evaluation import distances
from plugins.robustness import RetrievalTask
from plugins.robustness.attack_rows import attack_rows, budget_used
from tests.helpers.brute_force import brute_force
from tests.helpers.robust_subjects import Undefended, evaluated, tiny_cfg

QUERIES, ITEMS = 9, 30


def task_of(seed=0, metric="cosine", junk="camera", cmc="item", whole=False):
    """A task with distractors, junk, queries without a positive, and with ``whole`` ties."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(ITEMS, 5, generator=generator)
    if whole:
        features = features.round()
    pids = torch.randint(6, (ITEMS,), generator=generator)
    pids[0], pids[-1] = 0, 0  # somebody can be found
    camids = torch.randint(3, (ITEMS,), generator=generator)
    camids[0], camids[-1] = 0, 1
    rows = torch.arange(ITEMS)
    return RetrievalTask(
        "I2V", rows[:QUERIES], rows[QUERIES:], features, pids, camids, metric, junk, cmc
    )


SIDES = st.sampled_from(["query", "gallery"])
RULES = st.sampled_from(["camera", "none", "sysu"])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    metric=st.sampled_from(["cosine", "euclidean"]),
    side=SIDES,
    junk=RULES,
    cmc=st.sampled_from(["item", "identity"]),
    ties=st.booleans(),
)
def test_scores_are_those_of_a_search_with_attacked_features(seed, metric, side, junk, cmc, ties):
    task = task_of(seed, metric, junk, cmc, ties)
    queries = task.valid_queries()
    task = task.swapped() if side == "gallery" else task
    rows = task.draw(5, seed=1)
    features = torch.randn(len(rows), 5, generator=torch.Generator().manual_seed(seed + 1))
    if ties:
        features = features.round()

    scores, ranking = task.score(rows, features), task.ranking(rows, features)

    queries = rows if side == "query" else queries
    changed = task.features.clone()
    changed[rows] = features
    matrix = distances(changed[queries], changed[task.gallery_rows], metric).tolist()
    pids, camids = task.pids.tolist(), task.camids.tolist()
    gallery = task.gallery_rows.tolist()
    labels = [[ids[row] for row in side] for ids in (pids, camids) for side in (queries, gallery)]
    counted, precisions, _, lists = brute_force(matrix, *labels, junk=junk, cmc=cmc)
    assert scores.valid.all()
    assert None not in precisions, "a query without a positive was scored"
    firsts = [pids[gallery[ranked[0]]] for ranked in lists]
    assert scores.hit.tolist() == [a == b for a, b in zip(firsts, labels[0], strict=True)]
    assert scores.ap.tolist() == pytest.approx(precisions)
    assert ranking.cmc.tolist() == pytest.approx(counted)
    assert float(ranking.cmc[0]) == pytest.approx(float(scores.hit.double().mean()))


def test_a_query_without_a_positive_is_told():
    task = task_of()
    lost = task.query_rows[~torch.isin(task.query_rows, task.valid_queries())]
    assert len(lost), "the sample has no such query"
    rows = task.query_rows

    scores = task.score(rows, task.features[rows])

    assert rows[~scores.valid].tolist() == lost.tolist()
    assert scores.ap[~scores.valid].isnan().all() and not scores.hit[~scores.valid].any()


@given(seed=st.integers(0, 2**20), junk=RULES)
def test_guides_of_queries_are_those_of_the_search(seed, junk):
    task = task_of(seed, junk=junk)
    rows = torch.tensor([1, 4, 5])
    sides = rows, task.gallery_rows
    labels = [values[ids] for values in (task.pids, task.camids) for ids in sides]
    features = [task.features[ids] for ids in sides]
    expected = Guides.from_features(*features, *labels, metric="cosine", junk=junk)

    guides = task.guides(rows)

    for name in ("pids", "clean", "gallery", "gallery_pids", "valid"):
        assert torch.equal(getattr(guides, name), getattr(expected, name)), name
    assert guides.source == "gallery"


@given(seed=st.integers(0, 2**20), junk=RULES)
def test_guides_of_gallery_items_are_the_queries_under_the_same_rule(seed, junk):
    task = task_of(seed, junk=junk)
    by_query = task.guides(task.query_rows)

    guides = task.swapped().guides(task.gallery_rows)

    assert torch.equal(guides.valid, by_query.valid.T), "the rule is that of the task"
    assert torch.equal(guides.gallery, task.features[task.query_rows])
    assert torch.equal(guides.pids, task.pids[task.gallery_rows])
    assert guides.source == "query"


@pytest.mark.parametrize(
    ("name", "stuck", "moved"),
    [("FNA", 1, 0), ("RankMargin", 1, 1), ("Square", 0, 1), ("SMA", 0, 1)],
)
def test_items_that_no_query_looks_for_stay_where_an_attack_starts(
    market, monkeypatch, tmp_path, name, stuck, moved
):
    monkeypatch.setenv("FASTREID_DATASETS", str(market))
    cfg = tiny_cfg(tmp_path, "ATTACK.SIDE", "gallery", "ATTACK.STEPS", "2")
    evaluator = evaluated(cfg, Undefended())
    task = evaluator.task("Q2G")
    task = replace(task, query_rows=task.query_rows[:1])
    rows = task.draw(0, seed=0)
    sought = task.guides(rows).positives.any(dim=1)
    rows = torch.cat([rows[sought][:2], rows[~sought][:6]]).sort().values
    lonely = ~task.guides(rows).positives.any(dim=1)
    assert lonely.sum() == 6 and len(rows) == 8
    attack = build_attack(name, cfg, "TEST.ATTACKS")
    found = attack_rows(attack, evaluator.adapter, task, evaluator.batches(rows))
    assert set(found.zero_gradient[lonely].int().tolist()) == {stuck}
    assert set((found.mean_perturbation[lonely] > 0).int().tolist()) == {moved}


def test_gallery_features_are_picked_once():
    task = task_of()
    first, second = (task.guides(torch.tensor([row])) for row in (0, 1))
    assert first.gallery is second.gallery


@given(seed=st.integers(0, 2**20), number=st.integers(0, QUERIES + 2), side=SIDES)
def test_a_draw_is_of_candidates_and_repeats(seed, number, side):
    task = task_of(3)
    task = task.swapped() if side == "gallery" else task
    candidates = set(task.candidates().tolist())

    rows = task.draw(number, seed).tolist()

    assert rows == sorted(set(rows)) and set(rows) <= candidates
    assert len(rows) == min(number or len(candidates), len(candidates))
    assert task.draw(number, seed).tolist() == rows


def test_another_seed_draws_others():
    task = task_of().swapped()
    assert len({tuple(task.draw(5, seed).tolist()) for seed in range(5)}) > 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_budget_used_against_a_loop(norm):
    delta = torch.randn(5, 2, 3, 4, 3, generator=torch.Generator().manual_seed(0))
    groups = torch.tensor([0, 0, 1, 2, 2])

    moved, reached = budget_used(delta, groups, ThreatModel(norm=norm, eps=4.0))

    for row in range(3):
        pixels = delta[groups == row].double().flatten().tolist()
        mean = sum(abs(pixel) for pixel in pixels) / len(pixels)
        norm_2 = sum(pixel**2 for pixel in pixels) ** 0.5
        used, largest = (norm_2, norm_2) if norm == "l2" else (mean, max(map(abs, pixels)))
        assert float(moved[row]) == pytest.approx(used / 4)
        assert float(reached[row]) == pytest.approx(largest)


@pytest.mark.slow
def test_no_budget_is_no_movement():
    moved, reached = budget_used(torch.zeros(2, 3, 4, 4), torch.arange(2), ThreatModel(eps=0.0))
    assert moved.tolist() == reached.tolist() == [0.0, 0.0]
