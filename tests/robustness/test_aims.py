"""How often an aim was reached, against lists that are sorted by hand."""

import math

import pytest
import torch

from plugins.attacks import Recipe, ThreatModel
from plugins.attacks.dataset_level import CAMinus, CAPlus
from plugins.attacks.per_query import FNA, TMA, QAMinus, QAPlus
from plugins.evaluation import distances
from plugins.robustness import Search
from plugins.robustness.aims import aimed_success

QUERIES, ITEMS = 12, 40
RANKS = (1, 3, 10)


def search_of(seed, junk="camera"):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(ITEMS, 4, generator=generator)
    pids, camids = (torch.randint(number, (ITEMS,), generator=generator) for number in (5, 3))
    rows = torch.arange(ITEMS)
    return Search("Q2G", rows[:QUERIES], rows[QUERIES:], features, pids, camids, "cosine", junk)


def seen(search, query, item):
    """Whether the junk rule leaves an item to a query."""
    if search.junk == "none":
        return True
    same = search.pids[query] == search.pids[item]
    return not (same and search.camids[query] == search.camids[item])


def place_in_list(search, query, item, moved, features):
    """Rank of an item for a query by sorting; the features of row ``moved`` are ``features``."""
    table = search.features.clone()
    table[moved] = features
    gallery = [row for row in search.gallery_rows.tolist() if seen(search, query, row)]
    gaps = distances(table[query : query + 1], table[gallery], "cosine")[0].tolist()
    order = sorted(range(len(gallery)), key=lambda place: (gaps[place], place))
    return [gallery[place] for place in order].index(item) + 1


@pytest.mark.parametrize("junk", ["camera", "none"])
@pytest.mark.parametrize("kind", [QAPlus, QAMinus, TMA, CAPlus, CAMinus])
def test_success_against_sorted_lists(kind, junk):
    search = search_of(3, junk)
    of_candidates = issubclass(kind, CAPlus | CAMinus)
    search = search.swapped() if of_candidates else search
    attack = kind(ThreatModel(), Recipe(), seed=1)
    rows = search.candidates()
    features = search.features[rows] + torch.randn(
        len(rows), 4, generator=torch.Generator().manual_seed(9)
    )

    found = aimed_success(attack, search, rows, features, RANKS)

    guides = attack.set_target(search.guides(rows), rows)
    others = search.query_rows if of_candidates else search.gallery_rows
    ranks = []
    for place, row in enumerate(rows.tolist()):
        aims = others[guides.chosen[place]].tolist()
        if aims:
            pair = (aims[0], row) if of_candidates else (row, aims[0])
            ranks.append(place_in_list(search, *pair, row, features[place]))
    assert len(ranks) > 5
    for k in RANKS:
        reached = [(rank <= k) == kind.promote for rank in ranks]
        assert found[f"success@{k}"] == pytest.approx(100 * sum(reached) / len(reached))
    assert len(set(found.values())) > 1


@pytest.mark.parametrize("kind", [CAPlus, CAMinus])
def test_a_candidate_attack_on_drawn_items_aims_at_its_place_in_the_whole_gallery(kind):
    search = search_of(3, "none").swapped()
    rows = search.draw(4, seed=0)
    guides = search.guides(rows)
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
            found = aimed_success(attack, search, rows[reached], features[reached], (front,))
            assert found == {f"success@{front}": 100}
        solved += int(reached.sum())
    assert solved > 5


def test_what_aims_at_no_item_has_no_success():
    search = search_of(0)
    rows = search.candidates()
    attack = FNA(ThreatModel(), Recipe())
    assert aimed_success(attack, search, rows, search.features[rows], RANKS) == {}


def test_rows_without_anything_to_aim_at_do_not_count():
    search = search_of(0)
    search.pids[: QUERIES - 1] = torch.arange(100, 100 + QUERIES - 1)  # nobody of them is there
    search.pids[QUERIES - 1], search.camids[QUERIES - 1] = search.pids[QUERIES], 9
    rows, attack = search.query_rows, QAMinus(ThreatModel(), Recipe())
    found = aimed_success(attack, search, rows, search.features[rows], (1,))["success@1"]
    assert found in (0.0, 100.0) and not math.isnan(found)
    lonely = rows[:-1]
    assert aimed_success(attack, search, lonely, search.features[lonely], (1,)) == {}
