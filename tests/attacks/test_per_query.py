"""Attacks that need more than guides hold: references, targets, chosen items, all rows at once."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from plugins.attacks import Recipe, ThreatModel, build_attack
from plugins.attacks.dataset_level import CMPS, UAP, CAMinus, CAPlus
from plugins.attacks.gray import gray_patches
from plugins.attacks.objectives import local_transform, success_at_k
from plugins.attacks.per_query import LTA, TMA, QAMinus, QAPlus, draw_items
from plugins.config import setup_cfg
from plugins.errors import InputError
from plugins.evaluation import distances
from tests.helpers.attack_toys import clips, features_of, guides_of, part


def attack(kind, eps=16.0):
    return kind(ThreatModel(eps=eps), kind.published(eps))


def test_lta_leaves_the_features_of_a_new_grey_patch_at_each_pass():
    batch = clips()
    guides, seen = guides_of(batch), []

    class Watched(LTA):
        @staticmethod
        def objective(features, guides):
            seen.append(guides.reference)
            return local_transform(features, guides)

        @staticmethod
        def transform(images, generator):
            changed = gray_patches(images, generator)
            assert len(images) == 1 and torch.equal(images, images.round())  # one clean clip
            return changed

    result = attack(Watched).run(features_of, batch, guides)
    assert len(seen) == 16 and result.forwards == 2 * 16 * 10 and result.backwards == 15 * 10
    visible, infrared = batch["modalities"] == 0, batch["modalities"] == 1
    for reference, other in pairwise(seen):
        assert not torch.equal(reference[visible], other[visible])
        torch.testing.assert_close(reference[infrared], guides.clean[infrared], atol=0.2, rtol=0)
    assert not result.zero_gradient.any()


def test_another_restart_and_another_seed_have_other_patches():
    batch = clips()
    guides = guides_of(batch)
    values = []
    for seed, restart in ((0, 0), (0, 0), (1, 0), (0, 1)):
        score = LTA(ThreatModel(), Recipe(), seed).score_function(features_of, batch, guides)
        score.begin(restart)
        values.append(score(batch["images"])[0])
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2]) and not torch.equal(values[0], values[3])


def test_tma_turns_towards_an_item_of_another_person():
    batch = clips()
    guides = guides_of(batch)
    tma = attack(TMA)
    aimed = tma.set_target(guides, batch["rows"])
    for row, target in enumerate(aimed.reference):
        (item,) = (guides.gallery == target).all(dim=1).nonzero().flatten().tolist()
        assert guides.negatives[row, item]
    after = features_of(tma.run(features_of, batch, guides).batch)
    cosines = [torch.cosine_similarity(x, aimed.reference) for x in (guides.clean, after)]
    assert (cosines[1] > cosines[0] + 0.05).all()
    alone = replace(guides, valid=torch.zeros_like(guides.valid))
    assert torch.equal(tma.set_target(alone, batch["rows"]).reference, guides.clean)


@pytest.mark.parametrize(("kind", "promote"), [(QAPlus, True), (QAMinus, False)])
def test_a_query_attack_moves_its_drawn_items(kind, promote):
    batch = clips()
    guides = guides_of(batch)
    found = attack(kind)
    chosen = found.set_target(guides, batch["rows"]).chosen
    assert (chosen.sum(dim=1) == 1).all()
    assert not (chosen & ~(guides.negatives if promote else guides.positives)).any()
    attacked = features_of(found.run(features_of, batch, guides).batch)
    k = 1 if promote else 2  # of 5 visible items
    before, after = (
        success_at_k(
            distances(features, guides.gallery, "cosine"), chosen, ~guides.valid, k, promote=promote
        )
        for features in (guides.clean, attacked)
    )
    assert after.mean() >= before.mean() + 0.5


@pytest.mark.parametrize(("kind", "promote"), [(CAPlus, True), (CAMinus, False)])
def test_a_candidate_attack_moves_the_attacked_item_in_its_querys_list(kind, promote):
    """Against ranks counted by hand, among the clean items."""
    batch = clips()
    guides = guides_of(batch)
    halves = [part(batch, guides, range(5)), part(batch, guides, range(5, 10))]
    found = attack(kind).prepare(features_of, halves)
    chosen = found.set_target(guides, batch["rows"]).chosen
    attacked = features_of(found.run(features_of, batch, guides).batch)

    def ranks(features):
        places = []
        for row, feature in enumerate(features):
            query = guides.gallery[chosen[row]]
            others = torch.arange(10) != row
            gap = torch.cosine_similarity(query, guides.clean[others])
            places.append(int((gap > torch.cosine_similarity(query, feature[None])).sum()))
        return torch.tensor(places, dtype=torch.float)

    before, after = ranks(guides.clean), ranks(attacked)
    assert (after.mean() < before.mean() - 1) if promote else (after.mean() > before.mean() + 1)


def test_drawn_items_depend_on_row_and_seed_alone():
    among = torch.rand(6, 12, generator=torch.Generator().manual_seed(0)) < 0.5
    among[3] = False
    rows = torch.arange(6) + 40
    chosen = draw_items(among, rows, seed=1, number=2)
    assert torch.equal(chosen.sum(dim=1), among.sum(dim=1).clamp_max(2))
    assert not (chosen & ~among).any()
    for row in range(6):
        some = slice(row, row + 1)
        assert torch.equal(draw_items(among[some], rows[some], 1, 2), chosen[some])
    assert not torch.equal(draw_items(among, rows, seed=2, number=2), chosen)


@pytest.mark.parametrize("name", ["UAP", "MUAP", "CMPS"])
def test_a_universal_attack_adds_the_same_to_every_frame_of_every_row(name):
    batch = clips()
    guides = guides_of(batch)
    found = build_attack(name, setup_cfg(), "ATTACK").prepare(features_of, [(batch, guides)])
    delta = found.run(features_of, batch, guides).images - batch["images"]
    assert found.delta.shape == (3, 4, 2)
    torch.testing.assert_close(delta, found.delta.expand_as(delta), atol=1e-4, rtol=0)
    assert delta.abs().max() <= 8 + 1e-4 and delta.abs().mean() > 4


def test_cmps_shows_each_modality_by_itself_to_centroids():
    batch, shown = clips(), []
    guides = guides_of(batch)

    class Watched(CMPS):
        @staticmethod
        def objective(features, guides):
            shown.append((len(features), guides.source))
            return CMPS.objective(features, guides)

    def watched(some):
        shown.append(some["modalities"].unique().tolist())
        return features_of(some)

    Watched(ThreatModel(), Recipe(steps=4)).prepare(watched, [(batch, guides)])
    assert shown[0::2] == [[0], [1], [0], [1]]
    assert shown[1::2] == [(5, "centroids of gallery")] * 4
    visible = part(batch, guides, (batch["modalities"] == 0).nonzero().flatten().tolist())
    with pytest.raises(InputError, match="CMPS: no rows to learn from; expected visible and infra"):
        attack(CMPS).prepare(features_of, [visible])


@pytest.mark.parametrize(
    ("threat", "message"),
    [
        (ThreatModel(norm="l2"), "ATTACK.NORM: 'l2'; UAP supports linf"),
        (ThreatModel(frames="smooth"), "ATTACK.FRAMES: 'smooth'; UAP supports dense, shared"),
        (ThreatModel(infrared="tied"), "ATTACK.INFRARED: 'tied'; UAP supports free"),
    ],
)
def test_what_one_delta_cannot_have_is_refused(threat, message):
    with pytest.raises(InputError, match=message):
        UAP(threat, UAP.published(8.0)).prepare(features_of, [])


def test_an_attack_that_was_not_prepared_says_so():
    batch = clips()
    for kind in (UAP, CAPlus):
        with pytest.raises(InputError, match="learns from a whole data set before it attacks"):
            attack(kind).run(features_of, batch, guides_of(batch))


@pytest.mark.slow
def test_published_recipes():
    recipe = QAPlus.published(8.0)
    assert (recipe.steps, recipe.step_size) == (32, 3.0) == (CAMinus.published(8.0).steps, 3.0)
    assert LTA.published(8.0) == Recipe(steps=15, step_size=1.0, momentum=1.0, random_start=True)
    assert UAP.published(8.0).step_size == 0.8 and CMPS.published(12.0).step_size == 1.0
