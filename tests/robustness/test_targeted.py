"""How often an aim was reached, against lists that are sorted by hand."""

import math

import pytest
import torch

from plugins.attacks import Recipe, ThreatModel
from plugins.attacks.dataset_level import CAMinus, CAPlus
from plugins.attacks.per_query import FNA, TMA, QAMinus, QAPlus
from plugins.evaluation import distances
from plugins.robustness import RetrievalTask
from plugins.robustness.targeted import targeted_success_rate

QUERIES, ITEMS = 12, 40
RANKS = (1, 3, 10)


def task_of(seed, junk="camera"):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(ITEMS, 4, generator=generator)
    pids, camids = (torch.randint(number, (ITEMS,), generator=generator) for number in (5, 3))
    rows = torch.arange(ITEMS)
    return RetrievalTask(
        "Q2G", rows[:QUERIES], rows[QUERIES:], features, pids, camids, "cosine", junk
    )


def seen(task, query, item):
    """Whether the junk rule leaves an item to a query."""
    if task.junk == "none":
        return True
    same = task.pids[query] == task.pids[item]
    return not (same and task.camids[query] == task.camids[item])


def place_in_list(task, query, item, moved, features):
    """Rank of an item for a query by sorting; the features of row ``moved`` are ``features``."""
    table = task.features.clone()
    table[moved] = features
    gallery = [row for row in task.gallery_rows.tolist() if seen(task, query, row)]
    gaps = distances(table[query : query + 1], table[gallery], "cosine")[0].tolist()
    order = sorted(range(len(gallery)), key=lambda place: (gaps[place], place))
    return [gallery[place] for place in order].index(item) + 1


@pytest.mark.parametrize("junk", ["camera", "none"])
@pytest.mark.parametrize("kind", [QAPlus, QAMinus, TMA, CAPlus, CAMinus])
def test_success_against_sorted_lists(kind, junk):
    task = task_of(3, junk)
    of_candidates = issubclass(kind, CAPlus | CAMinus)
    task = task.swapped() if of_candidates else task
    attack = kind(ThreatModel(), Recipe(), seed=1)
    rows = task.candidates()
    features = task.features[rows] + torch.randn(
        len(rows), 4, generator=torch.Generator().manual_seed(9)
    )

    found = targeted_success_rate(attack, task, rows, features, RANKS)

    guides = attack.set_target(task.guides(rows), rows)
    others = task.query_rows if of_candidates else task.gallery_rows
    ranks = []
    for place, row in enumerate(rows.tolist()):
        aims = others[guides.chosen[place]].tolist()
        if aims:
            pair = (aims[0], row) if of_candidates else (row, aims[0])
            ranks.append(place_in_list(task, *pair, row, features[place]))
    assert len(ranks) > 5
    for k in RANKS:
        reached = [(rank <= k) == kind.promote for rank in ranks]
        assert found[f"success@{k}"] == pytest.approx(100 * sum(reached) / len(reached))
    assert len(set(found.values())) > 1


@pytest.mark.parametrize("kind", [CAPlus, CAMinus])
def test_a_candidate_attack_on_drawn_items_aims_at_its_place_in_the_whole_gallery(kind):
    task = task_of(3, "none").swapped()
    rows = task.draw(4, seed=0)
    guides = task.guides(rows)
    attack = kind(ThreatModel(), Recipe(), seed=1).prepare(None, [({}, guides)])
    aimed = attack.set_target(guides, rows)
    towards = aimed.chosen.float() @ guides.gallery * (1 if kind.promote else -1)
    front = 1 if kind.promote else ITEMS - QUERIES - 1
    solved = 0
    for seed in range(20):
        noise = torch.randn(len(rows), 4, generator=torch.Generator().manual_seed(seed))
        features = towards + noise
        reached = attack.objective(features, aimed) == 0
        if reached.any():
            found = targeted_success_rate(attack, task, rows[reached], features[reached], (front,))
            assert found == {f"success@{front}": 100}
        solved += int(reached.sum())
    assert solved > 5


def test_what_aims_at_no_item_has_no_success():
    task = task_of(0)
    rows = task.candidates()
    attack = FNA(ThreatModel(), Recipe())
    assert targeted_success_rate(attack, task, rows, task.features[rows], RANKS) == {}


@pytest.mark.slow
def test_rows_without_anything_to_aim_at_do_not_count():
    task = task_of(0)
    task.pids[: QUERIES - 1] = torch.arange(100, 100 + QUERIES - 1)  # nobody of them is there
    task.pids[QUERIES - 1], task.camids[QUERIES - 1] = task.pids[QUERIES], 9
    rows, attack = task.query_rows, QAMinus(ThreatModel(), Recipe())
    found = targeted_success_rate(attack, task, rows, task.features[rows], (1,))["success@1"]
    assert found in (0.0, 100.0) and not math.isnan(found)
    lonely = rows[:-1]
    assert targeted_success_rate(attack, task, lonely, task.features[lonely], (1,)) == {}
