"""The kinds that attack with what the batch holds, on maps alone."""

import math

import pytest
import torch

from plugins.errors import InputError
from plugins.modeling.self_attack import (
    BackgroundAttack,
    CleanPass,
    Labels,
    StatisticsAttack,
    StyleAttack,
    StyleWorstAttack,
    build_self_attack,
)
from plugins.modeling.self_attack.background import cell_evidence, least_evidence
from plugins.modeling.self_attack.channel_statistics import (
    clip_statistics,
    loss_slopes,
    within_person_deviation,
)
from plugins.modeling.self_attack.partners import partner_candidates
from plugins.modeling.self_attack.statistics import steepest_corner
from tests.helpers.small_models import small_cfg

FRAMES, CHANNELS, SIZE = 3, 6, (8, 4)
# 3 people, each by two cameras in each modality.
PEOPLE = torch.arange(3).repeat(4)
CAMERAS = torch.arange(2).repeat_interleave(3).repeat(2)
MODALITIES = torch.arange(2).repeat_interleave(6)
LABELS = Labels(PEOPLE, MODALITIES, CAMERAS, FRAMES)
KINDS = {
    "style": StyleAttack,
    "style_worst": StyleWorstAttack,
    "statistics": StatisticsAttack,
    "background": BackgroundAttack,
}


def attack_of(kind, *opts, eps=1.0):
    return build_self_attack(
        small_cfg("MODEL.SELF_ATTACK.KIND", kind, "MODEL.SELF_ATTACK.EPS", eps, *opts)
    )


def maps_of(shift=9.0, seed=0):
    """Maps that share most of their values; a shift of 9 leaves no cell at 0."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(CHANNELS, *SIZE, generator=generator)
    offsets = torch.randn(len(PEOPLE), 1, CHANNELS, 1, 1, generator=generator)
    noise = torch.randn(len(PEOPLE), FRAMES, CHANNELS, *SIZE, generator=generator)
    return (common + 0.5 * offsets + 0.3 * noise + shift).relu().flatten(0, 1)


def clean_pass(maps, labels=LABELS):
    return CleanPass(maps, labels)


def linear_losses(seed=4):
    weights = torch.randn(maps_of().shape, generator=torch.Generator().manual_seed(seed))
    return lambda x: {"loss_rev": (weights * x).sum()}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def run(attack, maps, labels=LABELS, seed=0):
    return attack(clean_pass(maps, labels), linear_losses(), generator=seeded(seed))


def partner_and_share(maps, attacked):
    """Of each clip, found from the maps alone: whose statistics, and how much of the way."""
    own, new = clip_statistics(maps, FRAMES), clip_statistics(attacked, FRAMES)
    found = []
    for clip in range(len(PEOPLE)):
        fits = []
        for other in set(range(len(PEOPLE))) - {clip}:
            way = own.mean[other] - own.mean[clip]
            share = (new.mean[clip] - own.mean[clip]) @ way / (way @ way)
            error = (own.mean[clip] + share * way - new.mean[clip]).abs().max()
            fits.append((error.item(), other, share.item()))
        error, other, share = min(fits)
        assert error < 1e-3
        found.append((other, share))
    return found


@pytest.mark.parametrize("partner", ["same_person", "other_person"])
@pytest.mark.parametrize("eps", [0.4, 1.0])
def test_style_mixes_in_a_partner_s_statistics_by_a_share_below_eps(partner, eps):
    attack, maps = attack_of("style", "MODEL.SELF_ATTACK.PARTNER", partner, eps=eps), maps_of()
    candidates = partner_candidates(LABELS, partner)
    shares = []
    for seed in range(8):
        for clip, (other, share) in enumerate(
            partner_and_share(maps, run(attack, maps, seed=seed))
        ):
            assert candidates[clip, other]
            assert -1e-3 < share < eps + 1e-3
            shares.append(share)
    assert sum(shares) / len(shares) == pytest.approx(eps / 2, abs=0.1 * eps), "uniform"
    assert max(shares) > 0.9 * eps and min(shares) < 0.1 * eps


def test_style_worst_uses_its_whole_share_on_the_partner_of_the_steepest_descent():
    attack, maps = attack_of("style_worst", eps=0.5), maps_of()
    own = clip_statistics(maps, FRAMES)
    point = maps.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(linear_losses()(point)["loss_rev"], point)
    g = gradient.unflatten(0, (-1, FRAMES))
    centered = maps.unflatten(0, (-1, FRAMES)) - own.mean[:, None, :, None, None]
    candidates = partner_candidates(LABELS, "same_person")
    for clip, (other, share) in enumerate(partner_and_share(maps, run(attack, maps))):
        assert share == pytest.approx(0.5, abs=1e-3)
        products = {}
        for j in candidates[clip].nonzero().flatten().tolist():
            products[j] = sum(
                g[clip, :, c].sum() * (own.mean[j, c] - own.mean[clip, c])
                + (g[clip, :, c] * centered[clip, :, c]).sum()
                * (own.log_deviation[j, c] - own.log_deviation[clip, c])
                for c in range(CHANNELS)
            )
        assert other == min(products, key=products.get)


def test_statistics_step_by_the_sign_of_the_gradient_within_a_person_s_own_deviation():
    attack, maps = attack_of("statistics", eps=0.5), maps_of()
    own = clip_statistics(maps, FRAMES)
    new = clip_statistics(run(attack, maps), FRAMES)
    point = maps.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(linear_losses()(point)["loss_rev"], point)
    g = gradient.unflatten(0, (-1, FRAMES))
    centered = maps.unflatten(0, (-1, FRAMES)) - own.mean[:, None, :, None, None]
    slopes = g.sum((1, 3, 4)), (g * centered).sum((1, 3, 4))
    for before, after, slope in zip(own, new, slopes, strict=True):
        room = 0.5 * within_person_deviation(before, PEOPLE)
        assert (room > 0).all()
        torch.testing.assert_close(after - before, -slope.sign() * room, rtol=1e-3, atol=1e-3)


def test_at_the_floor_the_step_is_the_best_of_the_four():
    maps = maps_of(shift=0.0)
    own = clip_statistics(maps, FRAMES)
    gradient = torch.randn(maps.shape, generator=seeded(2))
    slopes = loss_slopes(gradient, maps, FRAMES, own)
    room = torch.rand(CHANNELS, generator=seeded(3)), torch.rand(CHANNELS, generator=seeded(4))
    mean, log_deviation = steepest_corner(slopes, *room)
    for clip in range(len(PEOPLE)):
        for c in range(CHANNELS):
            corners = {
                (a * room[0][c].item(), b * room[1][c].item()) for a in (1, -1) for b in (1, -1)
            }
            changes = {}
            for corner in corners:
                both = [torch.zeros_like(own.mean) for _ in range(2)]
                both[0][clip, c], both[1][clip, c] = corner
                changes[corner] = slopes.change(*both)[clip, c].item()
            best = min(changes, key=changes.get) if min(changes.values()) < 0 else (0.0, 0.0)
            assert (mean[clip, c].item(), log_deviation[clip, c].item()) == pytest.approx(best)


def test_statistics_leave_a_clip_without_a_gradient_and_a_batch_without_pairs_as_they_are():
    attack, maps = attack_of("statistics"), maps_of()
    first = attack(clean_pass(maps), lambda x: {"loss_rev": x[:FRAMES].square().sum()})
    assert not torch.equal(first[:FRAMES], maps[:FRAMES])
    assert torch.equal(first[FRAMES:], maps[FRAMES:])
    alone = LABELS._replace(targets=torch.arange(len(PEOPLE)))
    assert torch.equal(run(attack, maps, alone), maps)


@pytest.mark.parametrize("eps", [0.0, 0.25, 0.5, 1.0])
def test_background_takes_its_share_of_cells_from_the_partner_s_same_frames(eps):
    attack, maps = attack_of("background", eps=eps), maps_of()
    attacked = run(attack, maps)
    before, after = (x.unflatten(0, (-1, FRAMES)) for x in (maps, attacked))
    candidates = partner_candidates(LABELS, "same_person", other_camera=True)
    for clip in range(len(PEOPLE)):
        replaced = (before[clip] != after[clip]).any(dim=1)  # (T, h, w)
        assert replaced[0].sum() == round(eps * SIZE[0] * SIZE[1])
        assert (replaced == replaced[0]).all(), "a cell that comes and goes would be a motion"
        fits = [
            other
            for other in range(len(PEOPLE))
            if torch.equal(after[clip][:, :, replaced[0]], before[other][:, :, replaced[0]])
        ]
        if eps > 0:
            (other,) = fits
            assert candidates[clip, other] and CAMERAS[other] != CAMERAS[clip]


def scene_of():
    """Clips of a still person before a moving background that the clips of a camera share.

    One camera shows the person left, the other one right of the middle; infrared is darker.

    Returns:
        Maps (N, C, h, w), and where the person is, (B, h, w) bool.
    """
    generator = seeded(7)
    walls = 2 + torch.randn(2, CHANNELS, SIZE[0], 40, generator=generator)
    looks = 2 + torch.randn(len(PEOPLE), CHANNELS, generator=generator)
    clips = torch.zeros(len(PEOPLE), FRAMES, CHANNELS, *SIZE)
    person = torch.zeros(len(PEOPLE), *SIZE, dtype=torch.bool)
    for clip, camera in enumerate(CAMERAS.tolist()):
        for t in range(FRAMES):
            start = int(torch.randint(0, 36, (), generator=generator))
            clips[clip, t] = walls[camera][:, :, start : start + SIZE[1]]
        person[clip, 2:6, camera : camera + 2] = True
        clips[clip][:, :, person[clip]] = looks[clip][:, None]
    clips = clips + 3 * (1 - MODALITIES)[:, None, None, None, None]
    return clips.relu().flatten(0, 1), person


@pytest.mark.parametrize("partner", ["same_person", "other_person"])
def test_background_spares_the_person_of_the_clip_and_takes_none_of_the_partner(partner):
    attack = attack_of("background", "MODEL.SELF_ATTACK.PARTNER", partner, eps=0.4)
    maps, person = scene_of()
    replaced = (run(attack, maps) != maps).any(dim=1).unflatten(0, (-1, FRAMES))[:, 0]
    # The partner is of the other camera, which shows its person on the other side.
    partner_s = person[CAMERAS.argsort(stable=True).flip(0)]
    assert replaced.float().mean() == pytest.approx(0.4, abs=0.02)
    for shown in (person, partner_s):
        assert replaced[shown].float().mean() < 0.12


def test_evidence_is_the_distance_from_the_modality_s_mean_within_a_window():
    maps, _ = scene_of()
    found = cell_evidence(maps, MODALITIES).view(len(PEOPLE), *SIZE)
    clips = maps.unflatten(0, (-1, FRAMES)).mean(dim=1)
    for clip in range(len(PEOPLE)):
        mean = clips[MODALITIES[clip] == MODALITIES].mean(dim=0)
        for row in range(SIZE[0]):
            for column in range(SIZE[1]):
                y, x = (2 * i / (n - 1) - 1 for i, n in zip((row, column), SIZE, strict=True))
                window = math.exp(-(x**2) - y**2 / 4)
                distance = (clips[clip] - mean)[:, row, column].norm().item()
                assert found[clip, row, column].item() == pytest.approx(window * distance, rel=1e-4)
    # What all clips of a modality share is no evidence of anybody.
    offset = 5 * torch.rand(2, CHANNELS, *SIZE)[MODALITIES.repeat_interleave(FRAMES)]
    shifted = cell_evidence(maps + offset, MODALITIES).view_as(found)
    torch.testing.assert_close(shifted, found, rtol=1e-4, atol=1e-4)


def test_the_cells_are_those_whose_larger_rank_of_the_two_is_least():
    evidence = torch.rand(4, 12, generator=seeded(1))
    partners = torch.tensor([2, 0, 3, 3])
    ranks = [[sorted(row).index(value) for value in row] for row in evidence.tolist()]
    for count in (0, 3, 12):
        found = least_evidence(evidence, partners, count)
        for clip, other in enumerate(partners.tolist()):
            pairs = zip(ranks[clip], ranks[other], strict=True)
            order = [(max(own, theirs), own) for own, theirs in pairs]
            expected = [key in sorted(order)[:count] for key in order]
            assert found[clip].tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_draws_follow_their_generator_and_partners_change_the_maps(kind):
    attack, maps = attack_of(kind, "MODEL.SELF_ATTACK.PARTNER", "other_person"), maps_of()
    assert torch.equal(run(attack, maps, seed=1), run(attack, maps, seed=1))
    if kind in ("style", "background"):
        assert not torch.equal(run(attack, maps, seed=1), run(attack, maps, seed=2))
    if kind != "statistics":
        same_person = attack_of(kind)
        assert not torch.equal(run(same_person, maps, seed=1), run(attack, maps, seed=1))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_budget_of_0(kind):
    maps = maps_of(shift=0.5)
    assert torch.equal(run(attack_of(kind, eps=0.0), maps), maps)


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_relu_nothing_falls_below_0(kind):
    maps = maps_of(shift=0.0)
    attacked = run(attack_of(kind), maps)
    assert not torch.equal(attacked, maps)
    assert attacked.min() >= 0


@pytest.mark.parametrize("kind", ["style", "style_worst", "background"])
def test_a_clip_without_a_partner_is_left_alone_and_a_batch_without_any_is_told_once(kind, caplog):
    attack, maps = attack_of(kind), maps_of()
    # Person 2 has one clip, the others keep theirs.
    persons = torch.where(PEOPLE == 2, 10 + torch.arange(len(PEOPLE)), PEOPLE)
    attacked = run(attack, maps, LABELS._replace(targets=persons)).unflatten(0, (-1, FRAMES))
    changed = (attacked != maps.unflatten(0, (-1, FRAMES))).flatten(1).any(dim=1)
    assert changed.tolist() == (PEOPLE != 2).tolist()
    assert caplog.text == ""
    alone = LABELS._replace(targets=torch.arange(len(PEOPLE)))
    for _ in range(2):
        assert torch.equal(run(attack, maps, alone), maps)
    (record,) = caplog.records
    assert "PARTNER same_person, PARTNER_MODALITY any: no clip of a batch has a partner" in (
        record.getMessage()
    )


@pytest.mark.parametrize("kind", ["style", "style_worst", "background"])
def test_a_batch_of_one_modality_and_camera_offers_no_clip_of_the_same_person(kind):
    one = LABELS._replace(modalities=torch.ones_like(PEOPLE), cameras=torch.zeros_like(PEOPLE))
    maps = maps_of()
    assert torch.equal(run(attack_of(kind), maps, one), maps)
    others = attack_of(kind, "MODEL.SELF_ATTACK.PARTNER", "other_person")
    if kind == "background":  # its partner is of another camera
        assert torch.equal(run(others, maps, one), maps)
    else:
        assert not torch.equal(run(others, maps, one), maps)


def test_the_gradient_reaches_the_clip_s_own_cells_and_not_its_partner():
    for kind in KINDS:
        attack, maps = attack_of(kind, eps=0.5), maps_of().requires_grad_(True)
        attacked = run(attack, maps)
        (gradient,) = torch.autograd.grad(attacked[:FRAMES].sum(), maps)
        assert gradient[:FRAMES].any() and not gradient[FRAMES:].any(), kind
    replaced = (attacked != maps)[:FRAMES]
    assert not gradient[:FRAMES][replaced].any(), "the last kind, background"


@pytest.mark.parametrize("kind", ["style", "style_worst", "background"])
def test_a_share_above_1_is_refused(kind):
    message = rf"^MODEL\.SELF_ATTACK\.EPS: 1\.5; KIND {kind} takes a share, .* at most 1$"
    with pytest.raises(InputError, match=message):
        attack_of(kind, eps=1.5)
    attack_of("statistics", eps=1.5)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_have_names_and_nothing_to_learn(kind):
    attack = attack_of(kind)
    assert type(attack) is KINDS[kind]
    assert list(attack.parameters()) == [] and attack.state_dict() == {}
    assert (attack.after, attack.normalization) == ("layer2", "clean")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("AFTER", "stem"),  # whose channels the modalities do not share
        ("AFTER", "layer4"),
        ("PARTNER", "anybody"),
        ("PARTNER_MODALITY", "infrared"),
        ("NORMALIZATION", "own"),
        ("LAMBDA_D", -1.0),
        ("STRENGTH_PERIOD", -1),
    ],
)
def test_values_that_no_run_can_have_are_refused(key, value):
    with pytest.raises(InputError, match=rf"^MODEL\.SELF_ATTACK\.{key}: "):
        small_cfg(f"MODEL.SELF_ATTACK.{key}", value)
