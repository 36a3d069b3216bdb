"""Two branches of a norm: each as if it had been alone with its batches, one of them deployed."""

import copy

import pytest
import torch
from fastreid.layers import get_norm
from fastreid.utils.events import EventStorage
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from plugins.compat import protect_input
from plugins.engine.checkpoint import Checkpointer
from plugins.engine.optimizer import build_optimizer
from plugins.errors import InputError
from plugins.modeling.dual_norm import BRANCHES, add_dual_norm, attacked_branch
from plugins.modeling.freeze import frozen_statistics
from tests.helpers.attack_models import batch_for, built
from tests.helpers.defense_toys import tiny, tiny_batch, tiny_cfg
from tests.helpers.small_models import differing, dual_cfg, state

NORMS = {
    "BN": lambda: get_norm("BN", 4),
    "GhostBN": lambda: get_norm("GhostBN", 4),
    "BatchNorm1d": lambda: nn.BatchNorm1d(4, momentum=None),
}


def other(deployed):
    return BRANCHES[1 - BRANCHES.index(deployed)]


def inputs_for(name, seed):
    shape = (8, 4) if name == "BatchNorm1d" else (8, 4, 3, 2)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * (1 + seed) + seed


@pytest.mark.parametrize("deployed", BRANCHES)
@pytest.mark.parametrize("name", NORMS)
def test_each_branch_is_a_norm_that_saw_its_batches_alone(name, deployed):
    torch.manual_seed(0)
    norm = nn.Sequential(NORMS[name]())
    alone = {branch: copy.deepcopy(norm[0]) for branch in BRANCHES}
    add_dual_norm(norm, dual_cfg(deployed))
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.5) for each in (norm, *alone.values())]
    for seed in range(4):
        inputs = inputs_for(name, seed)
        with attacked_branch(norm):
            hurt = norm(inputs + 3)
        clean = norm(inputs)
        twins = [alone["attacked"](inputs + 3), alone["clean"](inputs)]
        assert torch.equal(hurt, twins[0]) and torch.equal(clean, twins[1])
        for outputs in ((hurt, clean), twins):
            sum((each**3).sum() for each in outputs).backward()
        for optimizer in optimizers:
            optimizer.step(), optimizer.zero_grad()
    found = state(norm[0])
    expected = state(alone[deployed])
    expected |= {f"{other(deployed)}.{k}": v for k, v in state(alone[other(deployed)]).items()}
    assert differing(expected, found) == []
    norm.eval(), alone[deployed].eval()
    with attacked_branch(norm):
        assert torch.equal(norm(inputs), alone[deployed](inputs))
    assert torch.equal(norm(inputs), alone[deployed](inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Baseline", "SADSTRM"])
def test_every_norm_of_a_meta_architecture_starts_as_it_was(name):
    model, _ = built(name)
    stock, batch = copy.deepcopy(model), batch_for(name)
    model, stock = (protect_input(each) for each in (add_dual_norm(model, dual_cfg()), stock))
    norms = [n for n, part in stock.named_modules() if isinstance(part, _BatchNorm)]
    start = state(stock)
    added = {f"{n}.attacked.{k}" for n in norms for k in stock.get_submodule(n).state_dict()}
    assert len(norms) > 15 and set(state(model)) == set(start) | added
    with EventStorage():
        expected = stock(batch)
        with attacked_branch(model):
            found = model(batch)
        assert {n: v.item() for n, v in found.items()} == {n: v.item() for n, v in expected.items()}
        # The attacked batch left no trace in the branch of the clean ones.
        assert differing(start, {n: state(model)[n] for n in start}) == []
        model(batch)
    assert differing(state(stock), {n: state(model)[n] for n in start}) == []


@pytest.mark.parametrize("deployed", BRANCHES)
def test_a_stock_model_reads_the_deployed_branch_from_a_checkpoint(deployed, tmp_path):
    model, stock, batch = tiny(), tiny(), tiny_batch()
    add_dual_norm(model, dual_cfg(deployed))
    with attacked_branch(model):
        model({**batch, "images": 255 - batch["images"]})
    model(batch)
    Checkpointer(model, str(tmp_path)).save("model_final")
    path = str(tmp_path / "model_final.pth")
    Checkpointer(stock).load(path, checkpointables=[])
    assert torch.equal(stock.eval()(batch), model.eval()(batch))
    again = add_dual_norm(tiny(), dual_cfg(deployed))
    Checkpointer(again).load(path)
    assert differing(state(model), state(again)) == []
    swapped = add_dual_norm(tiny(), dual_cfg(other(deployed)))
    with pytest.raises(InputError, match=rf"\.{deployed}\.weight \(missing\)"):
        Checkpointer(swapped).load(path, checkpointables=[])


def test_frozen_statistics_freezes_both_branches():
    model = add_dual_norm(nn.Sequential(NORMS["BN"](), NORMS["GhostBN"]()), dual_cfg())
    before, inputs = state(model), inputs_for("BN", 1)
    with frozen_statistics(model):
        model(inputs)
        with attacked_branch(model):
            model(inputs)
    assert differing(before, state(model)) == []
    with attacked_branch(model):
        model(inputs)
    assert {n.split(".")[1] for n in differing(before, state(model))} == {"attacked"}


def test_the_branch_goes_back_also_after_an_error_and_when_nested():
    model = add_dual_norm(nn.Sequential(NORMS["BN"]()), dual_cfg())
    with pytest.raises(ZeroDivisionError), attacked_branch(model):
        with attacked_branch(model):
            pass
        assert model[0].batch == "attacked"
        raise ZeroDivisionError
    assert model[0].batch == "clean"


def test_a_copy_and_a_functional_call_have_branches_too():
    model = add_dual_norm(nn.Sequential(NORMS["BN"]()), dual_cfg())
    inputs, twin = inputs_for("BN", 0), copy.deepcopy(model)
    with attacked_branch(twin):
        twin(inputs)
    assert differing(state(model), state(twin)) == [
        f"0.attacked.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")
    ]
    weight = {"0.attacked.weight": torch.full((4,), 2.0)}
    with attacked_branch(model), frozen_statistics(model):
        torch.testing.assert_close(
            functional_call(model, weight, (inputs,)), 2 * model(inputs), rtol=1e-4, atol=1e-5
        )


def test_the_optimizer_gets_every_weight_once():
    model, cfg = built("Baseline")
    add_dual_norm(model, dual_cfg())
    groups = build_optimizer(cfg, model).param_groups
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(
        id(p) for p in model.parameters() if p.requires_grad
    )
    assert not model.heads.bottleneck[0].attacked.bias.requires_grad  # as the branch it is like


def test_without_the_key_or_without_norms_nothing_happens():
    model = tiny()
    before = state(model)
    assert differing(before, state(add_dual_norm(model, tiny_cfg()))) == []
    frozen = nn.Sequential(get_norm("FrozenBN", 4), nn.Linear(4, 4))
    names = set(state(frozen))
    assert set(state(add_dual_norm(frozen, dual_cfg()))) == names
    with attacked_branch(frozen):
        pass


@pytest.mark.slow
def test_a_branch_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match=r"MODEL\.DUAL_NORM\.DEPLOYED: 'dirty'; expected clean or"):
        add_dual_norm(nn.Sequential(), dual_cfg("dirty"))
