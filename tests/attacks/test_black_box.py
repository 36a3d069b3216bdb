"""Attacks without gradients, and those that are made on another model."""

from collections import Counter
from itertools import pairwise

import pytest
import torch

from plugins.attacks import Guides, Recipe, ThreatModel, Transferred, hop_skip_jump
from plugins.attacks.dataset_level import UAP
from plugins.attacks.objectives import rank_margin
from plugins.attacks.per_query import FNA, RankMargin, Square
from plugins.attacks.square import square_share
from plugins.errors import InputError
from tests.helpers.attack_toys import clips, features_of, guides_of, part

THREAT = ThreatModel(eps=6.0)


def square(steps=150, threat=THREAT, seed=0):
    return Square(threat, Recipe("square", steps, early_stop=True, skip_successful=True), seed)


def blocked(batch):
    """The same features, with no way back to the images."""
    return features_of({**batch, "images": batch["images"].detach().round()})


def test_squares_break_rank_1_where_there_is_no_gradient():
    batch = clips(people=8)
    guides = guides_of(batch)
    noise = Square(THREAT, Recipe("square", steps=1)).run(blocked, batch, guides)
    result = square(80).run(blocked, batch, guides)
    with pytest.raises(InputError, match="no gradient with respect to the images"):
        FNA(THREAT, Recipe()).run(blocked, batch, guides)
    assert result.backwards == 0 and result.forwards < 80 * 16
    assert (result.margin > 0).sum() >= (noise.margin > 0).sum() + 2
    assert result.margin.mean() > noise.margin.mean()
    strong = RankMargin(THREAT, Recipe("apgd", 50, random_start=True)).run(
        features_of, batch, guides
    )
    assert (strong.margin > 0).sum() >= (result.margin > 0).sum()


def test_the_first_images_are_vertical_stripes_and_then_one_square_of_each_clip_changes():
    batch, seen = clips(people=2), []
    batch["images"] = torch.full((4, 2, 3, 12, 8), 100.0)
    alike = torch.zeros(4)  # one person, so that no margin is ever above 0
    guides = Guides(
        alike, torch.rand(4, 3), torch.rand(4, 3), alike, torch.ones(4, 4) > 0, "cosine"
    )

    def rising(some):  # each trial is better than the one before, so that all are kept
        seen.append(some["images"])
        return torch.full((4, 3), 1.0) + torch.arange(3.0) * len(seen)

    class Rising(Square):
        @staticmethod
        def objective(features, guides):
            return features[:, 1]

    steps = 20
    Rising(THREAT, Recipe("square", steps)).run(rising, batch, guides)
    stripes = seen[0] - 100
    assert len(seen) == steps and (stripes.abs() == 6).all()
    assert torch.equal(stripes, stripes[..., :1, :].expand_as(stripes))
    sides = []
    for before, after in pairwise(seen):
        changed = (before != after).any(dim=2).any(dim=1)  # (B, H, W)
        for clip in changed:
            rows, columns = clip.any(dim=1).sum(), clip.any(dim=0).sum()
            sides.append(max(int(rows), int(columns)))
        assert ((after - 100).abs() == 6).all()
    expected = [
        min(max(round((square_share(query, steps) * 96) ** 0.5), 1), 8)
        for query in range(1, steps)
        for _ in range(4)
    ]
    assert all(side <= most for side, most in zip(sides, expected, strict=True))
    assert sum(side == most for side, most in zip(sides, expected, strict=True)) > 60


def test_the_share_of_the_square_is_halved_nine_times():
    shares = Counter(square_share(query, 5000) for query in range(5000))
    assert sorted(shares) == [0.8 / 2**n for n in range(9, -1, -1)]
    assert square_share(4999, 5000) == 0.8 / 512


@pytest.mark.parametrize("frames", ["shared", "sparse", "smooth"])
def test_squares_keep_to_the_threat_model_at_full_strength(frames):
    batch = clips()
    threat = ThreatModel(eps=6.0, frames=frames, smooth_tau=1.0, infrared="tied")
    images = square(20, threat).run(blocked, batch, guides_of(batch)).images
    delta = images - batch["images"]
    infrared = delta[batch["modalities"] == 1]
    assert torch.equal(infrared, infrared[:, :, :1].expand_as(infrared))
    touched = delta.abs().amax(dim=(2, 3, 4)) > 0
    assert (touched.sum(dim=1) == (1 if frames == "sparse" else 3)).all()
    assert (delta[touched].abs() > 5.9).float().mean() > 0.9
    if frames != "sparse":
        torch.testing.assert_close(delta, delta[:, :1].expand_as(delta))


def test_squares_know_linf_only():
    batch = clips()
    with pytest.raises(InputError, match="'l2'; the square attack supports linf only"):
        square(3, ThreatModel("l2")).run(features_of, batch, guides_of(batch))


def test_hop_skip_jump_breaks_rank_1_within_the_budget():
    pytest.importorskip("foolbox")
    batch = clips(people=2)
    guides, threat = guides_of(batch), ThreatModel(eps=20.0)
    clean = rank_margin(guides.clean, guides)
    outcome = hop_skip_jump(blocked, batch, guides, threat, steps=1)
    attacked, margin = outcome.batch["images"], outcome.margin
    delta = (attacked - batch["images"]).flatten(1).abs().amax(dim=1)
    assert (delta <= 20 + 1e-4).all() and attacked.min() >= 0 and attacked.max() <= 255
    torch.testing.assert_close(rank_margin(blocked(outcome.batch), guides), margin)
    assert not outcome.zero_gradient.any() and outcome.backwards == 0
    assert (margin > 0).sum() > (clean > 0).sum()
    assert torch.equal(delta == 0, clean > 0)


def test_a_row_without_a_start_in_the_batch_is_marked():
    pytest.importorskip("foolbox")
    batch = clips()
    some, guides = part(batch, guides_of(batch), [0])
    outcome = hop_skip_jump(blocked, some, guides, THREAT, steps=1)
    assert outcome.zero_gradient.tolist() == [True]
    assert torch.equal(outcome.batch["images"], some["images"])


def other_model(batch):
    """A model that looks at the images in another way."""
    return features_of({**batch, "images": batch["images"].flip(-1) * 0.9 + 10})


def test_a_transferred_attack_is_prepared_on_the_surrogate():
    batch = clips(people=8)
    guides, clean = guides_of(batch), other_model(batch)
    theirs = Guides(guides.pids, clean, clean, guides.pids, guides.valid, "cosine")
    attack = UAP(THREAT, Recipe(steps=2, step_size=1.0))
    carried = Transferred(attack, other_model, lambda rows: theirs)
    found = carried.prepare(blocked, [(batch, guides)]).attack.delta
    assert torch.equal(found, attack.prepare(other_model, [(batch, theirs)]).delta)
    assert not torch.equal(found, attack.prepare(features_of, [(batch, guides)]).delta)


@pytest.mark.slow
def test_a_transferred_attack_is_made_on_the_surrogate_and_scored_on_the_model():
    batch = clips(people=8)
    guides, clean = guides_of(batch), other_model(batch)
    theirs = Guides(guides.pids, clean, clean, guides.pids, guides.valid, "cosine")
    asked = []

    def guides_of_rows(rows):
        asked.append(rows)
        return theirs

    recipe = Recipe("apgd", steps=20, random_start=True)
    attack = RankMargin(THREAT, recipe)
    outcome = Transferred(attack, other_model, guides_of_rows).run(blocked, batch, guides)
    assert torch.equal(asked[0], batch["rows"])
    assert torch.equal(outcome.batch["images"], attack.run(other_model, batch, theirs).images)
    margin = rank_margin(features_of({"images": outcome.batch["images"].round()}), guides)
    torch.testing.assert_close(outcome.margin, margin)
    itself = Transferred(attack, features_of, lambda rows: guides).run(features_of, batch, guides)
    assert (itself.margin > 0).sum() > (outcome.margin > 0).sum()
    torch.testing.assert_close(itself.margin, attack.run(features_of, batch, guides).margin)
