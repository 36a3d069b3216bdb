"""Parameter groups and schedules against their definitions."""

from types import SimpleNamespace

import pytest
import torch
from fastreid.utils.events import EventStorage
from torch import nn

from plugins.config import setup_cfg
from plugins.engine.hooks import LRScheduler
from plugins.engine.optimizer import (
    OPTIMIZERS,
    build_lr_scheduler,
    build_optimizer,
    warmup_iters,
)
from plugins.errors import InputError


def model() -> nn.Module:
    layers = nn.ModuleDict({"backbone": nn.Linear(2, 2), "norm": nn.BatchNorm1d(2)})
    layers["heads"] = nn.Linear(2, 2)
    return layers


def test_groups_share_rate_and_decay_and_hold_each_tensor_once():
    net = model()
    cfg = setup_cfg()
    cfg.SOLVER.OPT = "SGD"
    cfg.SOLVER.BASE_LR = 0.1
    cfg.SOLVER.HEADS_LR_FACTOR = 10.0
    cfg.SOLVER.WEIGHT_DECAY = 0.5
    cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0
    cfg.SOLVER.WEIGHT_DECAY_BIAS = 0.25
    optimizer = build_optimizer(cfg, net, leave_out=[net["backbone"].bias])
    found = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert found == {
        id(net["backbone"].weight): (0.1, 0.5),
        id(net["norm"].weight): (0.1, 0.0),
        id(net["norm"].bias): (0.1, 0.25),
        id(net["heads"].weight): (1.0, 0.5),
        id(net["heads"].bias): (1.0, 0.25),
    }
    settings = [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert len(settings) == len(set(settings))
    assert all(group["fused"] for group in optimizer.param_groups)


@pytest.mark.parametrize(("name", "near"), [("Adm", "Adam"), ("Optimizer", ""), ("LBFGS", "")])
def test_unknown_optimizer_is_named_with_the_nearest(name, near):
    with pytest.raises(InputError, match=rf"SOLVER\.OPT: .* no '{name}' to use; nearest: {near}"):
        build_optimizer(setup_cfg("", ["SOLVER.OPT", name]), model())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_a_network(name):
    net = model()
    optimizer = build_optimizer(setup_cfg("", ["SOLVER.OPT", name]), net)
    before = net["heads"].weight.detach().clone()
    net["heads"](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(net["heads"].weight, before)


def rates(options: str, epochs: int, iters_per_epoch: int) -> list[float]:
    """Rate of the first iteration of each epoch, stepped as fastreid's LRScheduler hook does."""
    cfg = setup_cfg("", options.split())
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_lr_scheduler(cfg, optimizer, iters_per_epoch)
    warm, iteration, found = warmup_iters(cfg, iters_per_epoch), 0, []
    for epoch in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        for _ in range(iters_per_epoch):
            optimizer.step()
            if iteration + 1 <= warm:
                schedule["warmup_sched"].step()
            iteration += 1
        if iteration + 1 > warm and epoch + 1 > cfg.SOLVER.DELAY_EPOCHS:
            schedule["lr_sched"].step()
    return found


def test_warmup_and_milestones_count_epochs_of_training():
    found = rates("SOLVER.WARMUP_EPOCHS 10 SOLVER.WARMUP_FACTOR 0.1 SOLVER.STEPS [35,80]", 100, 3)
    assert found[0] == pytest.approx(0.1)
    assert found[5] == pytest.approx(0.55)
    assert found[10:35] == pytest.approx([1.0] * 25)
    assert found[35:80] == pytest.approx([0.1] * 45)
    assert found[80:] == pytest.approx([0.01] * 20)


def test_without_warmup_epochs_fastreid_s_own_counting_stays():
    cfg = setup_cfg("", ["SOLVER.WARMUP_ITERS", "6"])
    assert warmup_iters(cfg, 3) == 6
    assert rates("SOLVER.WARMUP_ITERS 6 SOLVER.STEPS [2]", 5, 3)[2:] == pytest.approx([1, 0.1, 0.1])


def test_milestones_count_epochs_of_training_with_a_delay_too():
    options = "SOLVER.WARMUP_EPOCHS 2 SOLVER.DELAY_EPOCHS 5 SOLVER.STEPS "
    assert rates(f"{options} [8]", 12, 3)[2:] == pytest.approx([1.0] * 6 + [0.1] * 4)
    with pytest.raises(InputError, match=r"5 lies in the warm-up or delay; expected 6 or more"):
        rates(f"{options} [5,8]", 12, 3)


@pytest.mark.parametrize("scales", [[8, 8, 8, 8, 8, 8, 8, 8], [64, 32, 32, 16, 16, 8, 8, 8]])
def test_a_warm_up_reaches_its_rate_though_float16_overflows(scales):
    cfg = setup_cfg("", ["SOLVER.WARMUP_ITERS", "4"])
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    hook = LRScheduler(optimizer, build_lr_scheduler(cfg, optimizer, 10))
    scaler = SimpleNamespace(get_scale=iter(scales).__next__)
    hook.trainer = SimpleNamespace(warmup_iters=4, storage=EventStorage(), grad_scaler=scaler)
    for hook.trainer.iter in range(4):
        hook.before_step()
        optimizer.step()
        hook.after_step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1.0)


def test_a_milestone_within_the_warm_up_is_refused():
    options = "SOLVER.MAX_EPOCH 14 SOLVER.WARMUP_EPOCHS 10 SOLVER.STEPS"
    with pytest.raises(InputError, match=r"SOLVER\.STEPS \[9, 12\]: 9 lies in the warm-up"):
        rates(f"{options} [9,12]", 14, 5)
    assert rates(f"{options} [10,12]", 14, 5)[10:] == pytest.approx([0.1, 0.1, 0.01, 0.01])


@pytest.mark.slow
def test_a_cosine_without_an_epoch_is_refused():
    options = "SOLVER.SCHED CosineAnnealingLR SOLVER.WARMUP_EPOCHS 2 SOLVER.MAX_EPOCH"
    with pytest.raises(InputError, match=r"after 2 epochs.*expected SOLVER\.MAX_EPOCH above 2"):
        rates(f"{options} 2", 2, 5)
    assert len(rates(f"{options} 3", 3, 5)) == 3
