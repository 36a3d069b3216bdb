"""Budgets in other units, and steps too short for them, are told; unsigned bytes do not wrap."""

import logging
import math

import pytest
import torch

from plugins.attacks import PerturbationSet, Recipe, ThreatModel, build_attack, hop_skip_jump
from plugins.attacks.attack import read_attack
from plugins.attacks.black_box.transfer import Transferred
from plugins.attacks.budget import check_budget, check_reach
from plugins.attacks.features import float_images
from plugins.attacks.projections import mean_absolute
from plugins.config import setup_cfg
from plugins.errors import InputError
from plugins.registry import ATTACK, known
from tests.helpers.attack_toys import clips, features_of, guides_of, maximize_once

SIZE = (256, 128)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("name", ["SMA", "RankMargin", "FNA-strong", "UAP", "Square"])
def test_a_budget_below_one_gray_level_is_told_once_with_the_unit(name, caplog):
    cfg = setup_cfg(opts=["ATTACK.EPS", "0.0314"])
    for _ in range(3):
        build_attack(name, cfg, "TEST.ATTACKS")
    assert warnings(caplog) == [
        "ATTACK.EPS: 0.0314 is less than one gray level; budgets are in gray levels, 0 to 255, "
        "where 8/255 is 8"
    ]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("section", ["ATTACK", "DEFENSE"])
def test_no_budget_is_told_for_tests_and_for_training(section, norm, caplog):
    check_budget(ThreatModel(norm, eps=0), section, SIZE)
    (told,) = warnings(caplog)
    assert told.startswith(f"{section}.EPS: 0 allows no change: attacked images are the clean")


def test_more_sparse_frames_than_a_clip_has_are_refused():
    words = ["ATTACK.FRAMES", "sparse", "INPUT.CLIP.LENGTH", "3", "ATTACK.SPARSE_FRAMES"]
    assert ThreatModel.from_config(setup_cfg(opts=[*words, "3"])).sparse_frames == 3
    with pytest.raises(
        InputError, match=r"^ATTACK\.SPARSE_FRAMES: 10, .* 3 frames, .*expected 1 to"
    ):
        ThreatModel.from_config(setup_cfg(opts=[*words, "10"]))


@pytest.mark.parametrize("eps", [1, 8, 255])
def test_a_budget_of_gray_levels_is_not(eps, caplog):
    check_budget(ThreatModel(eps=eps), "ATTACK", SIZE)
    assert not warnings(caplog)


def test_an_l2_budget_that_spreads_to_nothing_is_told(caplog):
    values = 3 * math.prod(SIZE)
    check_budget(ThreatModel("l2", eps=math.sqrt(values / 3) + 1), "ATTACK", SIZE)
    assert not warnings(caplog)
    check_budget(ThreatModel("l2", eps=8), "DEFENSE", SIZE)
    (told,) = warnings(caplog)
    assert told.startswith("DEFENSE.EPS: 8 in ATTACK.NORM l2 is 0.026 gray levels a value over ")
    assert "1448 is as much as noise of linf 8" in told
    torch.manual_seed(0)
    noise = 16 * torch.rand(values) - 8
    assert noise.norm() == pytest.approx(1448, rel=0.01)


def test_reach_names_the_section_and_the_unit_of_small_steps():
    recipe, threat = Recipe(steps=10, step_size=0.0157), ThreatModel(eps=8)
    assert check_reach("DEFENSE.INNER FNA", threat, recipe, "DEFENSE") == (
        "DEFENSE.INNER FNA: 10 steps of 0.0157 reach 0.157, less than DEFENSE.EPS 8; for the whole "
        "budget raise DEFENSE.STEP_SIZE or DEFENSE.STEPS; all are in gray levels, 0 to 255"
    )
    assert not check_reach("A", ThreatModel(eps=0.157), recipe)
    with pytest.raises(InputError, match=r"A: 5 steps of 4 reach 20, less than ATTACK\.EPS 400"):
        check_reach("A", ThreatModel("l2", eps=400), Recipe(steps=5, step_size=4.0))


def test_every_attack_is_read_without_a_look_at_its_reach_and_built_with_one():
    cfg = setup_cfg(opts=["ATTACK.NORM", "l2", "ATTACK.EPS", "4000"])
    refused = set()
    for name in known(ATTACK):
        read_attack(name, cfg, "KEY")
        try:
            build_attack(name, cfg, "KEY")
        except InputError:
            refused.add(name)
    assert {"SMA", "FNA", "GOAT", "QAPlus", "CAMinus"} <= refused
    assert not refused & {"RankMargin", "MetricFGSM", "UAP", "Square"}


@pytest.mark.parametrize("eps", [math.inf, math.nan])
def test_a_budget_without_an_end_is_refused(eps):
    with pytest.raises(InputError, match=rf"ATTACK\.EPS: {eps}; expected a finite number"):
        ThreatModel(eps=eps)


WHOLE = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
HALF = [torch.float16, torch.bfloat16]


def attacked_of(run, dtype, high=255):
    batch = clips()
    whole = batch["images"].clamp(0, high).to(dtype)
    clean = {**batch, "images": whole}
    plain = {**batch, "images": whole.float()}
    return whole, run(clean), run(plain)


@pytest.mark.parametrize("name", [*known(ATTACK), "SMA-strong"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16])
def test_every_attack_moves_whole_and_half_precision_images_as_it_does_float32(name, dtype):
    opts = ["ATTACK.STEPS", "30" if name == "Square" else "4", "ATTACK.RESTARTS", "2"]
    attack = build_attack(name, setup_cfg(opts=opts), "KEY")

    def run(batch):
        guides = guides_of(batch)
        prepared = attack.prepare(features_of, [(batch, guides)])
        return prepared.run(features_of, batch, guides)

    whole, found, expected = attacked_of(run, dtype)
    assert torch.equal(found.batch["images"], expected.batch["images"])
    assert torch.equal(found.objective, expected.objective)
    moved = found.batch["images"] - whole.float()
    assert found.batch["images"].dtype == torch.float32
    assert moved.abs().max() <= 8 + 1e-4
    assert (moved < 0).any() and (moved > 0).any(), "all pixels went the same way"


@pytest.mark.parametrize("dtype", [*WHOLE, *HALF])
def test_a_region_of_any_numbers_has_room_on_both_sides(dtype):
    high = 127 if dtype == torch.int8 else 255
    _, found, expected = attacked_of(
        lambda batch: PerturbationSet(ThreatModel(), batch).random_point(0, 0), dtype, high
    )
    assert torch.equal(found, expected)


@pytest.mark.slow
def test_a_transferred_attack_and_hop_skip_jump_take_bytes():
    attack = build_attack("LTA", setup_cfg(opts=["ATTACK.STEPS", "2"]), "KEY")
    batch = clips()
    carried = Transferred(attack, features_of, lambda rows: guides_of(batch))
    _, found, expected = attacked_of(
        lambda some: carried.run(features_of, some, guides_of(some)), torch.uint8
    )
    assert torch.equal(found.batch["images"], expected.batch["images"])
    pytest.importorskip("foolbox")
    _, found, expected = attacked_of(
        lambda some: hop_skip_jump(features_of, some, guides_of(some), ThreatModel(), steps=1),
        torch.uint8,
    )
    assert torch.equal(found.batch["images"], expected.batch["images"])


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_images_of_no_numbers_are_refused(dtype):
    with pytest.raises(InputError, match=rf"attack: images are of {dtype}; expected numbers in"):
        float_images({"images": torch.zeros(1, 3, 2, 2, dtype=dtype)})


def test_floats_are_left_as_they_are():
    for dtype in (torch.float32, torch.float64):
        batch = {"images": torch.zeros(1, dtype=dtype)}
        assert float_images(batch) is batch


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("optimizer", ["sign", "apgd"])
@pytest.mark.parametrize("random_start", [False, True])
def test_change_from_start_is_the_distance_from_where_the_restart_began(
    norm, optimizer, random_start
):
    batch, threat = clips(), ThreatModel(norm, eps=8 if norm == "linf" else 60)
    attack = build_attack("FNA", setup_cfg(), "KEY")
    region = PerturbationSet(threat, batch)
    start = region.random_point(3, 0) if random_start else region.clean
    recipe = Recipe(optimizer, 5, step_size=threat.eps / 4, random_start=random_start)
    score = attack.score_function(features_of, batch, guides_of(batch))
    result = maximize_once(score, region, recipe, seed=3)
    by_hand = [(x - s).abs().mean() for x, s in zip(result.images, start, strict=True)]
    torch.testing.assert_close(result.change_from_start, torch.stack(by_hand))
    torch.testing.assert_close(
        mean_absolute(result.images - start, region.groups, len(region.rows)),
        result.change_from_start,
    )
    assert result.change_from_start.min() > 0
