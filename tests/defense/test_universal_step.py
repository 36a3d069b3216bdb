"""One perturbation for all: it rises by the gradient of training itself, and costs nothing more."""

import copy
from pathlib import Path

import pytest
import torch
from fastreid.utils import comm
from fastreid.utils.events import EventStorage

from plugins.defense.universal_step import UniversalStep
from plugins.engine.steps import SimpleStep
from plugins.errors import InputError
from tests.helpers.attack_models import batch_for, built
from tests.helpers.defense_runs import assert_resumes
from tests.helpers.defense_toys import Loader, run, step_of, tiny, tiny_batch, tiny_cfg
from tests.helpers.small_models import copied, differing, state
from tests.helpers.small_runs import ROOT
from tests.helpers.two_processes import in_two_processes

PLAIN = ("DEFENSE.CLEAN_WEIGHT", 0.0, "DEFENSE.STEP_SIZE", 3.0)


class Samples(Loader):
    """A loader whose data set has samples like the first of its batches."""

    @property
    def dataset(self):
        return {(0, 0): {"images": self.batches[0]["images"][0]}}


def universal(*opts, batches=None, model=None, cfg=None, lr=0.1):
    model = model or tiny()
    loader = Samples(batches or [tiny_batch(number) for number in range(3)])
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return UniversalStep(cfg or tiny_cfg(*PLAIN, *opts), model, loader, optimizer)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_weights_and_perturbation_move_by_one_gradient_as_in_a_slow_loop(accumulated):
    step = universal("SOLVER.ACCUMULATION", accumulated)
    model, delta = copy.deepcopy(step.model), torch.zeros(3, 16, 8)
    run(step, 4)
    batches = [tiny_batch(number % 3) for number in range(4 * accumulated)]
    for first in range(0, len(batches), accumulated):
        delta.requires_grad_()
        total = 0.0
        for batch in batches[first : first + accumulated]:
            images = (batch["images"] + delta).clamp(0, 255)
            total = total + sum(model({**batch, "images": images}).values()) / accumulated
        parameters = list(model.parameters())
        *gradients, rise = torch.autograd.grad(total, [*parameters, delta])
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.1 * gradient
            delta = (delta + 3.0 * rise.sign()).clamp(-8, 8)
    found = step.crafter.delta.detach()
    assert (found == delta).float().mean() > 0.99 and 3 < found.abs().mean() <= 8
    for name, value in state(model).items():
        torch.testing.assert_close(state(step.model)[name], value, atol=1e-3, rtol=1e-3)


def test_it_stays_in_the_budget_and_the_batch_is_left_alone():
    batch = tiny_batch()
    step, before = universal("DEFENSE.STEP_SIZE", 5.0, batches=[batch]), copied(batch)
    run(step, 6)
    assert step.crafter.delta.abs().max() == 8
    attacked = step.craft(batch)
    assert attacked["images"].min() >= 0 and attacked["images"].max() <= 255
    assert (attacked["images"] - batch["images"]).abs().max() <= 8
    assert torch.equal(before["images"], batch["images"])


def test_a_perturbation_of_a_larger_budget_is_cut_to_the_present_one():
    batch, step = tiny_batch(), universal("DEFENSE.EPS", 2.0)
    larger = torch.full_like(step.crafter.delta, 8.0)
    step.crafter.load_state_dict({"delta": larger})
    moved = (step.craft(batch)["images"] - batch["images"]).abs()
    assert moved.max() == 2
    run(step)
    assert step.crafter.delta.abs().max() <= 2


def test_an_iteration_has_the_passes_of_clean_training():
    counts = []
    for step in (universal(), step_of(kind=SimpleStep)):
        forwards, backwards = [], []
        step.model.register_forward_hook(lambda *_, f=forwards: f.append(1))
        step.model.trunk.register_full_backward_hook(lambda *_, b=backwards: b.append(1))
        run(step, 3)
        counts.append((len(forwards), len(backwards)))
    assert counts == [(3, 3), (3, 3)]


@pytest.mark.parametrize(
    "opts",
    [
        ("DEFENSE.EPS", 0.0),
        ("DEFENSE.WARMUP_EPOCHS", 3),
        ("DEFENSE.ATTACKED_WEIGHT", 0.0, "DEFENSE.CLEAN_WEIGHT", 1.0),
    ],
)
def test_without_a_perturbation_it_is_plain_training_to_the_bit(opts):
    ours, plain = universal(*opts), step_of(kind=SimpleStep)
    run(ours, 3), run(plain, 3)
    assert differing(state(plain.model), state(ours.model)) == []
    assert not ours.crafter.delta.any()


def test_the_budget_grows_in_the_warm_up():
    step = universal("DEFENSE.WARMUP_EPOCHS", 4)
    sizes = []
    for step.epoch in range(6):
        run(step, 3)
        sizes.append(step.crafter.delta.abs().max().item())
    assert sizes == [0, 2, 4, 6, 8, 8]


def test_on_a_network_that_does_not_learn_it_harms_more_than_noise():
    batch = tiny_batch()
    step = universal("DEFENSE.EPS", 16.0, batches=[batch], lr=0.0)
    run(step, 30)
    noise = torch.randint(0, 2, (3, 16, 8), generator=torch.Generator().manual_seed(0)) * 32 - 16
    noisy = (batch["images"] + noise).clamp(0, 255)
    losses = [
        sum(step.model({**batch, "images": images}).values()).item()
        for images in (batch["images"], noisy, step.craft(batch)["images"])
    ]
    assert losses[2] > max(1.1 * losses[0], losses[1])


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "shape"), [("dense", (2, 3, 64, 32)), ("shared", (3, 64, 32))])
def test_a_clips_frames_have_one_each_or_share_one(frames, shape):
    options = [str(opt) for opt in PLAIN]
    model, cfg = built("VVIBaseline", "ATTACK.FRAMES", frames, *options)
    step = universal(model=model, cfg=cfg, batches=[batch_for("VVIBaseline")])
    run(step)
    assert step.crafter.delta.shape == shape
    assert set(step.crafter.delta.abs().unique().tolist()) <= {0.0, 3.0}
    assert (step.crafter.delta != 0).float().mean() > 0.9
    assert list(step.checkpointables()["universal"].state_dict()) == ["delta"]


def test_an_overflowed_gradient_moves_nothing():
    crafter = universal().crafter
    crafter.delta.grad = torch.ones(3, 16, 8)
    crafter.ascend(epoch=0)
    before = crafter.delta.clone()
    crafter.delta.grad = torch.full((3, 16, 8), torch.inf)
    crafter.ascend(epoch=0)
    assert torch.equal(crafter.delta, before) and (before == 3).all() and crafter.delta.grad is None


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("ATTACK.NORM", "l2"), r"ATTACK\.NORM: 'l2'; UniversalStep supports linf"),
        (("ATTACK.FRAMES", "smooth"), r"ATTACK\.FRAMES: 'smooth'; UniversalStep supports dense or"),
        (("ATTACK.INFRARED", "tied"), r"ATTACK\.INFRARED: 'tied'; UniversalStep supports free"),
        (("DEFENSE.EPS", -1.0), r"DEFENSE\.EPS: -1\.0; expected 0 or more"),
        (("DEFENSE.TRIPLET_WEIGHT", 1.0), r"DEFENSE\.TRIPLET_WEIGHT: 1\.0; .* no triplets"),
    ],
)
def test_what_one_perturbation_cannot_be_is_refused(opts, message):
    with pytest.raises(InputError, match=message):
        universal(*opts)


def train_a_rank(folder: Path) -> None:
    rank = comm.get_rank()
    step = universal(batches=[tiny_batch(rank)])
    with EventStorage():
        step.run_step()
        step.run_step()
    torch.save(step.crafter.delta.detach(), folder / f"{rank}.pth")


@pytest.mark.slow
def test_ranks_share_one_perturbation(tmp_path):
    in_two_processes(train_a_rank, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    assert torch.equal(first, second) and first.any()


@pytest.mark.slow
def test_killed_and_resumed_is_bit_identical(market, tmp_path):
    config = ROOT / "configs/Defense/synthetic/free_uap.yml"
    saved, _ = assert_resumes(market, tmp_path, config, "universal")
    assert saved["universal"]["delta"].abs().max() > 0
