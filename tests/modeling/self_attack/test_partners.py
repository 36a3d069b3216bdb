import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.modeling.self_attack.labels import Labels
from plugins.modeling.self_attack.partners import best_partners, draw_partners, partner_candidates

KINDS = [(p, m) for p in ("same_person", "other_person") for m in ("any", "same", "other")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def may_be_partners(first, second, partner, modality, other_camera):
    """By words, for two clips of (person, modality, camera)."""
    if partner == "same_person":
        if first[0] != second[0] or first[1:] == second[1:]:
            return False
    elif first[0] == second[0]:
        return False
    if modality == "same" and first[1] != second[1]:
        return False
    if modality == "other" and first[1] == second[1]:
        return False
    return not (other_camera and first[2] == second[2])


@given(
    clips=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=8
    ),
    kind=st.sampled_from(KINDS),
    other_camera=st.booleans(),
)
def test_candidates_are_what_the_words_say(clips, kind, other_camera):
    persons, modalities, cameras = torch.tensor(clips).T
    found = partner_candidates(Labels(persons, modalities, cameras, 1), *kind, other_camera)
    expected = [[may_be_partners(a, b, *kind, other_camera) for b in clips] for a in clips]
    assert found.tolist() == expected
    assert not found.diagonal().any()


def test_each_candidate_is_drawn_as_often_as_the_others_and_nobody_else():
    candidates = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 0, 0, 0]] + [[0] * 5] * 3).bool()
    generator = seeded()
    draws = torch.stack([draw_partners(candidates, generator) for _ in range(3000)])
    shares = torch.nn.functional.one_hot(draws[:, 0], 5).float().mean(dim=0)
    torch.testing.assert_close(shares, torch.tensor([0, 1, 1, 0, 1]) / 3, atol=0.03, rtol=0)
    assert (draws[:, 1] == 0).all()
    assert (draws[:, 2:] == torch.tensor([2, 3, 4])).all(), "without a candidate: the clip itself"


def test_draws_follow_their_generator_and_without_one_the_seed():
    candidates = ~torch.eye(16).bool()
    assert torch.equal(draw_partners(candidates, seeded(3)), draw_partners(candidates, seeded(3)))
    assert not torch.equal(
        draw_partners(candidates, seeded(3)), draw_partners(candidates, seeded(4))
    )
    torch.manual_seed(5)
    first = draw_partners(candidates)
    torch.manual_seed(5)
    assert torch.equal(draw_partners(candidates), first)


def test_the_best_partner_has_the_lowest_score_of_the_candidates():
    scores = torch.tensor([[0.0, 3, -1, 2], [5, -9, 4, 6], [1, 1, 0, 7], [2, 2, 2, 2]])
    candidates = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    best = torch.stack([best_partners(scores, candidates, seeded(s)) for s in range(50)])
    assert (best[:, 0] == 3).all() and (best[:, 1] == 2).all() and (best[:, 3] == 3).all()
    assert set(best[:, 2].tolist()) == {0, 1}, "of equal ones each has its chance"


@pytest.mark.parametrize("score", [float("inf"), 1e30, -1e30])
def test_extreme_scores_do_not_let_others_in(score):
    candidates = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 1, 0]]).bool()
    best = best_partners(torch.full((3, 3), score), candidates, seeded())
    assert best.tolist() == [1, 0, 1]
