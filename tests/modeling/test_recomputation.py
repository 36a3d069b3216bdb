"""A trunk that computes its activations again trains as one that keeps them, in less memory."""

import contextlib
import copy

import pytest
import torch
from fastreid.utils.events import EventStorage
from torch import nn

from plugins.compat import protect_input
from plugins.errors import InputError
from plugins.modeling.batch_statistics import BatchStatistics
from plugins.modeling.dual_norm import add_dual_norm, attacked_branch
from plugins.modeling.freeze import evaluation_mode, frozen_parameters, frozen_statistics
from plugins.modeling.recomputation import recompute_blocks
from tests.helpers.attack_models import batch_for, built
from tests.helpers.small_models import differing, dual_cfg, small_cfg, state

ON = "SOLVER.ACTIVATION_CHECKPOINTING", "True"
MOBILENET = (
    *("MODEL.BACKBONE.TRUNK", "build_mobilenetv2_backbone", "MODEL.BACKBONE.DEPTH", "0.25x"),
    *("MODEL.BACKBONE.FEAT_DIM", "1280"),
)
OSNET = (
    *("MODEL.BACKBONE.TRUNK", "build_osnet_backbone", "MODEL.BACKBONE.DEPTH", "x0_25"),
    *("MODEL.BACKBONE.FEAT_DIM", "128", "MODEL.BACKBONE.LAST_STRIDE", "1"),
)
NON_LOCAL = (
    *("MODEL.BACKBONE.DEPTH", "50x", "MODEL.BACKBONE.FEAT_DIM", "2048"),
    *("MODEL.BACKBONE.WITH_NL", "True"),
)
MODELS = {
    "ResNet": ("VVIBaseline", ()),
    "MobileNetV2": ("VVIBaseline", MOBILENET),
    "OSNet": ("VVIBaseline", OSNET),
    "non-local": ("VVIBaseline", NON_LOCAL),
    "SADSTRM": ("SADSTRM", ()),
    "stock": ("Baseline", ()),
}


def pair(kind, *opts, change=lambda model: model):
    """The same model twice, the second with recomputation, and a batch."""
    name, own = MODELS[kind]
    model, cfg = built(name, *own, *opts, *ON)
    change(protect_input(model))
    return model, recompute_blocks(copy.deepcopy(model), cfg), batch_for(name)


def trained(model, batch, *during):
    """Losses, gradients and state after a forward pass in the contexts and a backward pass."""
    torch.manual_seed(0)
    with EventStorage():
        with contextlib.ExitStack() as stack:
            for context in during:
                stack.enter_context(context(model))
            found = model(dict(batch))
        losses = found if isinstance(found, dict) else {"features": found.square().sum()}
        sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return losses, gradients, state(model)


def assert_equal(plain, recomputed):
    for expected, found in zip(plain, recomputed, strict=True):
        assert expected and differing(expected, found) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_losses_gradients_and_statistics_are_equal_to_the_bit(kind):
    plain, recomputed, batch = pair(kind)
    assert_equal(trained(plain, batch), trained(recomputed, batch))


def freeze_half(model):
    return frozen_parameters(list(model.parameters())[::2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "during", [evaluation_mode, frozen_statistics, freeze_half], ids=lambda part: part.__name__
)
def test_what_held_in_the_forward_pass_holds_again(during):
    """The backward pass comes after the context."""
    plain, recomputed, batch = pair("ResNet")
    assert_equal(trained(plain, batch, during), trained(recomputed, batch, during))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["style", "style_worst", "statistics", "background", "gradient", "random", "learned"]
)
@pytest.mark.parametrize("normalization", ["clean", "attacked"])
def test_a_defense_turn_is_equal_to_the_bit_with_each_self_attack(kind, normalization):
    """Attacked maps may be normalized by statistics that are lent for one pass."""
    keys = {"KIND": kind, "EPS": 0.5, "NORMALIZATION": normalization}
    options = [word for key, value in keys.items() for word in (f"MODEL.SELF_ATTACK.{key}", value)]
    plain, recomputed, batch = pair("SADSTRM", *options)
    found = []
    for model in (plain, recomputed):
        torch.manual_seed(0)
        with EventStorage() as storage:
            losses = model(dict(batch), turn="defense")
            sum(losses.values()).backward()
        assert storage.latest()["self_attack/feature_distance"][0] > 0, "nothing was attacked"
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((losses, gradients, state(model)))
    assert_equal(*found)
    assert not any(hasattr(part, "supply") for part in recomputed.modules())


@pytest.mark.slow
def test_a_gradient_inside_the_lent_statistics_leaves_them_as_they_were():
    """As of an attack that differentiates before the pass is over; then the pass goes on."""
    found = []
    for model in pair("ResNet")[:2]:
        batch = batch_for("VVIBaseline")
        statistics = BatchStatistics(model)
        with EventStorage():
            with statistics.recorded():
                model(dict(batch))
            with statistics.used():
                losses = model({**batch, "images": 0.9 * batch["images"]})
                sum(losses.values()).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((losses, gradients, state(model)))
    assert_equal(*found)


@pytest.mark.slow
def test_each_batch_keeps_its_branch():
    plain, recomputed, batch = pair("ResNet", change=lambda model: add_dual_norm(model, dual_cfg()))
    attacked = trained(plain, batch, attacked_branch), trained(recomputed, batch, attacked_branch)
    assert_equal(*attacked)
    assert any(".attacked." in name for name in attacked[1][1])
    assert {part.batch for part in recomputed.modules() if hasattr(part, "batch")} == {"clean"}


@pytest.mark.slow
def test_lent_weights_are_those_of_the_pass():
    plain, recomputed, batch = pair("ResNet")
    factor = torch.ones((), requires_grad=True)
    gradients = []
    for model in (plain, recomputed):
        lent = {name: 1.1 * factor * weight for name, weight in model.named_parameters()}
        with EventStorage():
            losses = torch.func.functional_call(model, lent, (dict(batch),))
        gradients += torch.autograd.grad(sum(losses.values()), factor)
    assert gradients[0] != 0 and torch.equal(*gradients)


def kept_bytes(model, batch):
    """Bytes that the graph keeps for the backward pass, the parameters not counted."""
    own = {p.data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr(), tensor.numel()] = tensor.numel() * tensor.element_size()
        return tensor

    with EventStorage(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = model(dict(batch))
    assert losses
    return sum(kept.values())


@pytest.mark.slow
def test_the_graph_keeps_less_than_a_third():
    plain, recomputed, batch = pair("ResNet")
    assert kept_bytes(recomputed, batch) < kept_bytes(plain, batch) / 3


@pytest.mark.slow
def test_evaluation_is_as_it_was():
    plain, recomputed, batch = pair("ResNet")
    with torch.no_grad():
        assert torch.equal(recomputed.eval()(batch), plain.eval()(batch))


@pytest.mark.slow
def test_a_copy_uses_its_own_weights():
    _, recomputed, batch = pair("ResNet")
    other = copy.deepcopy(recomputed).eval()
    with torch.no_grad():
        before = other(batch)
        for parameter in recomputed.parameters():
            parameter.zero_()
        assert torch.equal(other(batch), before)


def test_a_model_without_a_known_trunk_is_refused():
    with pytest.raises(InputError, match=r"SOLVER\.ACTIVATION_CHECKPOINTING: True, but Linear has"):
        recompute_blocks(nn.Linear(2, 2), small_cfg(*ON))


@pytest.mark.slow
def test_without_the_key_nothing_changes():
    model, cfg = built("VVIBaseline")
    assert recompute_blocks(model, cfg) is model
    assert not any("forward" in vars(part) for part in model.modules())
