"""Who is updated by what, on the real model and loader of a small config."""

import contextlib

import pytest
import torch
from fastreid.utils.events import EventStorage
from torch import nn

from plugins.config import setup_cfg
from plugins.engine import Trainer
from plugins.engine.hooks import LayerFreeze
from plugins.engine.steps import check_losses, mixed_precision
from plugins.errors import InputError
from plugins.modeling.losses import Loss
from tests.helpers.small_runs import CONFIG, options

FROZEN = {
    "MODEL__FREEZE_LAYERS": "['backbone']",
    "MODEL__META_ARCHITECTURE": "VVIBaseline",
    "SOLVER__STEP": "SimpleStep",
}


def trainer(datasets, tmp_path, monkeypatch, **changes) -> Trainer:
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    cfg = setup_cfg(str(CONFIG), options(tmp_path, **changes))
    torch.manual_seed(0)
    return Trainer(cfg)


def step(trainer: Trainer, epoch: int = 0) -> set[str]:
    """Run one step and return the names of the tensors that moved."""
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.epoch, trainer.iter = epoch, epoch * trainer.iters_per_epoch
    with EventStorage():
        trainer.run_step()
    after = dict(trainer.model.named_parameters())
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def trainable(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_one_step_moves_every_trainable_tensor(datasets, tmp_path, monkeypatch, optimizer):
    one = trainer(
        datasets,
        tmp_path,
        monkeypatch,
        MODEL__META_ARCHITECTURE="VVIBaseline",
        SOLVER__STEP="SimpleStep",
        SOLVER__OPT=optimizer,
    )
    assert step(one) == trainable(one.model)


@pytest.mark.slow
def test_alternating_step_moves_both_players(datasets, tmp_path, monkeypatch):
    one = trainer(datasets, tmp_path, monkeypatch)
    assert step(one, epoch=1) == trainable(one.model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["style", "style_worst", "statistics", "background"])
def test_an_attack_with_nothing_to_learn_is_defended_against(datasets, tmp_path, monkeypatch, kind):
    one = trainer(datasets, tmp_path, monkeypatch, MODEL__SELF_ATTACK__KIND=kind)
    inner = one._trainer
    assert inner.adversary_optimizer is None
    assert "adversary_optimizer" not in inner.checkpointables()
    turns = []
    inner.model.register_forward_pre_hook(
        lambda _, args, kwargs: turns.append(kwargs.get("turn")), with_kwargs=True
    )
    assert step(one, epoch=0) == step(one, epoch=1) == trainable(one.model)
    assert turns == [None, "defense"]


@pytest.mark.slow
def test_before_its_start_epoch_the_adversary_rests(datasets, tmp_path, monkeypatch):
    one = trainer(datasets, tmp_path, monkeypatch)
    adversary = {name for name in trainable(one.model) if name.startswith("attack.")}
    assert adversary
    assert step(one, epoch=0) == trainable(one.model) - adversary


@pytest.mark.slow
def test_attack_turn_moves_only_the_adversary(datasets, tmp_path, monkeypatch):
    one = trainer(datasets, tmp_path, monkeypatch)
    monkeypatch.setattr(one._trainer, "update", lambda: None)
    moved = step(one, epoch=1)
    assert moved == {name for name in trainable(one.model) if name.startswith("attack.")}


@pytest.mark.slow
def test_defense_turn_moves_none_of_the_adversary(datasets, tmp_path, monkeypatch):
    one = trainer(datasets, tmp_path, monkeypatch)
    monkeypatch.setattr(one._trainer, "_attack", lambda batches: {})
    moved = step(one, epoch=1)
    assert moved == {name for name in trainable(one.model) if not name.startswith("attack.")}


@pytest.mark.slow
def test_accumulated_gradient_is_the_mean_of_the_batches_gradients(datasets, tmp_path, monkeypatch):
    one = trainer(
        datasets,
        tmp_path,
        monkeypatch,
        MODEL__META_ARCHITECTURE="VVIBaseline",
        SOLVER__STEP="SimpleStep",
        SOLVER__ACCUMULATION=2,
    )
    batches, _ = one._trainer.next_batches()
    assert len(batches) == 2
    one.model.eval()
    one.model.training = True  # losses, with BatchNorm's statistics held still
    one.model.heads.training = True
    with EventStorage():
        gradients = []
        for chosen in ([batches[0]], [batches[1]], batches):
            one._trainer.backward(chosen, one.optimizer)
            gradients.append(one.model.heads.weight.grad.clone())
    torch.testing.assert_close(gradients[2], (gradients[0] + gradients[1]) / 2)


def test_an_epoch_shorter_than_one_update_is_refused(datasets, tmp_path, monkeypatch):
    with pytest.raises(
        InputError, match=r"SOLVER\.ACCUMULATION 1000: an epoch has only \d+ batches"
    ):
        trainer(datasets, tmp_path, monkeypatch, SOLVER__ACCUMULATION=1000)


@pytest.mark.parametrize("step", ["SimpleStep", "AlternatingStep", "AdversarialStep"])
@pytest.mark.parametrize("part", ["FNES", "DISCRIMINATOR", "META"])
def test_a_part_of_the_defense_that_the_step_ignores_is_refused(
    datasets, tmp_path, monkeypatch, step, part
):
    message = rf"^DEFENSE\.{part}\.ENABLED: True, but SOLVER\.STEP {step} .* DDDefenseStep$"
    changes = {"SOLVER__STEP": step, f"DEFENSE__{part}__ENABLED": True}
    with pytest.raises(InputError, match=message):
        trainer(datasets, tmp_path, monkeypatch, **changes)


@pytest.mark.slow
def test_frozen_layers_keep_their_weights_until_freeze_iters(datasets, tmp_path, monkeypatch):
    one = trainer(datasets, tmp_path, monkeypatch, **FROZEN, SOLVER__FREEZE_ITERS=1)
    frozen = {name for name in trainable(one.model) if name.startswith("backbone")}
    assert step(one, epoch=0) == trainable(one.model) - frozen
    assert step(one, epoch=1) == trainable(one.model)


def test_frozen_layers_record_nothing_also_after_an_evaluation(datasets, tmp_path, monkeypatch):
    one = trainer(datasets, tmp_path, monkeypatch, **FROZEN, SOLVER__FREEZE_ITERS=2)
    (hook,) = (hook for hook in one._hooks if isinstance(hook, LayerFreeze))
    modes = []
    for one.iter in range(4):
        hook.before_step()
        modes.append((one.model.backbone.training, one.model.heads.training))
        one.model.train()  # as an evaluation leaves it
    assert modes == [(False, True)] * 2 + [(True, True)] * 2


def test_a_layer_to_freeze_that_does_not_exist_is_refused(datasets, tmp_path, monkeypatch):
    with pytest.raises(
        InputError, match=r"MODEL\.FREEZE_LAYERS: no 'bakbone' in SADSTRM; .* backbone,"
    ):
        trainer(
            datasets,
            tmp_path,
            monkeypatch,
            MODEL__FREEZE_LAYERS="['bakbone']",
            SOLVER__FREEZE_ITERS=2,
        )


@pytest.mark.slow
def test_clipping_bounds_each_gradient(datasets, tmp_path, monkeypatch):
    one = trainer(
        datasets,
        tmp_path,
        monkeypatch,
        SOLVER__CLIP_GRADIENTS__ENABLED=True,
        SOLVER__CLIP_GRADIENTS__CLIP_VALUE=1e-3,
    )
    step(one, epoch=1)
    norms = [p.grad.norm().item() for g in one.optimizer.param_groups for p in g["params"]]
    assert max(norms) <= 1e-3 * 1.001
    assert max(norms) > 1e-4


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_before_the_update(datasets, tmp_path, monkeypatch):
    one = trainer(datasets, tmp_path, monkeypatch)
    with torch.no_grad():
        one.model.heads.weight[0, 0] = float("nan")
    before = one.model.backbone.state_dict()
    before = {name: value.clone() for name, value in before.items() if "running" not in name}
    with pytest.raises(
        FloatingPointError, match=r"iteration 0: a loss is infinite or NaN: loss_cls"
    ):
        step(one)
    after = one.model.backbone.state_dict()
    assert all(torch.equal(v, after[n]) for n, v in before.items() if "num_batches" not in n)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"SOLVER__STEP": "SimpleStep"}, "SimpleStep: the adversary of SADSTRM takes no part"),
        ({"SOLVER__ADVERSARY__START_EPOCH": 3}, "START_EPOCH 3: the adversary takes no part"),
    ],
)
def test_an_adversary_without_a_turn_is_told(
    datasets, tmp_path, monkeypatch, caplog, changes, words
):
    trainer(datasets, tmp_path, monkeypatch, **changes)
    assert ("takes no part" in caplog.text) == (words is not None)
    assert (words or "") in caplog.text


def test_alternating_step_needs_an_adversary(datasets, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="VVIBaseline has no adversary; use SimpleStep"):
        trainer(datasets, tmp_path, monkeypatch, MODEL__META_ARCHITECTURE="VVIBaseline")


class TestMixedPrecision:
    def test_off(self):
        autocast, scaler = mixed_precision(setup_cfg())
        assert isinstance(autocast(), contextlib.nullcontext)
        assert scaler is None

    def test_on_a_cpu_warns_once_and_needs_no_scaler(self, caplog):
        caplog.set_level("WARNING", logger="plugins")
        autocast, scaler = mixed_precision(
            setup_cfg("", ["SOLVER.AMP.ENABLED", "True", "MODEL.DEVICE", "cpu"])
        )
        assert scaler is None
        with autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).sum() == 8

    def test_unknown_format_is_named(self):
        with pytest.raises(InputError, match=r"SOLVER\.AMP\.DTYPE: 'float8'; expected float16"):
            mixed_precision(
                setup_cfg("", ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "float8"])
            )

    @pytest.mark.slow
    def test_a_step_in_mixed_precision_moves_every_tensor(self, datasets, tmp_path, monkeypatch):
        one = trainer(datasets, tmp_path, monkeypatch, SOLVER__AMP__ENABLED=True)
        assert step(one, epoch=1) == trainable(one.model)


WITH = torch.ones((), requires_grad=True)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"loss_own": None}, r"loss_own: the loss of a batch is None; expected a tensor with one"),
        ({"loss_own": 1.0}, r"loss_own: the loss of a batch is 1\.0; expected a tensor"),
        ({"loss_own": WITH.expand(4)}, r"loss_own: the loss of a batch is a tensor \(4,\)"),
        ({"loss_own": torch.ones(())}, r"loss_own: no loss has a gradient; expected one that is"),
    ],
)
def test_a_loss_that_trains_nothing_is_refused_by_name(losses, message):
    with pytest.raises(InputError, match=message):
        check_losses(losses)


def test_a_detached_loss_is_warned_of_once(caplog):
    for _ in range(2):
        check_losses({"loss_cls": WITH, "loss_own": torch.ones(())})
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("loss_own: the loss has no gradient, so it trains nothing")


@pytest.mark.slow
def test_the_value_of_a_loss_is_checked_before_it_is_weighted():
    class Nothing(Loss):
        key = "loss_nothing"

        def value(self, outputs, targets, modalities):
            return None

    with pytest.raises(InputError, match="loss_nothing: the loss of a batch is None"):
        Nothing()({}, torch.zeros(1), torch.zeros(1))
