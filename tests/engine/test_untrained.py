"""Who is told that a parameter does not train, and who is not."""

import logging
from types import SimpleNamespace

import pytest
import torch
from fastreid.utils.events import EventStorage
from torch import nn

from plugins.engine import optimizer as solver
from plugins.engine.steps import AlternatingStep, SimpleStep
from plugins.engine.untrained import PATIENCE, TellUntrained, hidden_parameters
from tests.helpers.defense_toys import Loader, Tiny, tiny_batch, tiny_cfg


class Parts(Tiny):
    """With a part that a loss reaches, one that none does, and one behind a zero."""

    def __init__(self):
        super().__init__()
        self.alive, self.dead = nn.Parameter(torch.ones(8)), nn.Linear(1, 1, bias=False)
        self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 8)
        nn.init.zeros_(self.outer.weight)

    def forward(self, batch):
        features = self.alive * (batch["images"] / 255).mean(dim=(1, 2, 3))[:, None]
        features = features + self.outer(self.inner(features))
        return super().forward(batch) | {"loss_own": features.square().sum()}


class Game(Parts):
    """With an adversary that has a turn of its own."""

    def __init__(self):
        super().__init__()
        self.adversary = nn.Linear(3, 1)

    def adversary_parameters(self):
        return list(self.adversary.parameters())

    def forward(self, batch, turn=None):
        if turn == "attack":
            return {"loss_attack": self.adversary(batch["images"].mean(dim=(2, 3)) / 255).sum()}
        return super().forward(batch)


def told(caplog, model, updates=PATIENCE + 2, step=SimpleStep, epoch=1, **changes):
    """The warnings of so many updates, all in one epoch."""
    cfg = tiny_cfg(*[word for pair in changes.items() for word in pair])
    held_by_others = step.adversary_parameters(model)
    main = solver.build_optimizer(cfg, model, leave_out=held_by_others)
    one = step(cfg, model, Loader([tiny_batch()]), main)
    hook = TellUntrained(one)
    hook.trainer = SimpleNamespace(iter=0, start_iter=0)
    one.epoch = epoch
    caplog.clear()
    with caplog.at_level(logging.WARNING, "plugins"), EventStorage():
        hook.before_train()
        for hook.trainer.iter in range(updates):
            one.iter = hook.trainer.iter
            one.run_step()
            hook.after_step()
        hook.after_train()
    return [record.getMessage() for record in caplog.records]


def test_what_no_loss_reaches_is_told_once_by_name(caplog):
    assert told(caplog, Parts(), 3 * PATIENCE) == [
        "1 parameter does not train, as no gradient reached it in 10 updates: dead.weight"
    ]
    assert told(caplog, Tiny()) == []


def test_a_short_training_is_told_at_its_end(caplog):
    (line,) = told(caplog, Parts(), 4)
    assert line == (
        "1 parameter does not train, as no gradient reached it in the 4 updates so far: dead.weight"
    )
    assert told(caplog, Parts(), 2) == [], "a path behind zeros may still wait"
    assert told(caplog, Tiny(), 4) == []


def test_what_no_optimizer_holds_is_told_once_by_name(caplog):
    class Late(Tiny):
        def forward(self, batch):
            if not hasattr(self, "late"):
                self.late = nn.Parameter(torch.ones(1))
            losses = super().forward(batch)
            return {name: self.late * loss for name, loss in losses.items()}

    expected = ["1 parameter does not train, as no optimizer holds it: late"]
    assert told(caplog, Late(), 3 * PATIENCE) == expected


def test_frozen_layers_are_not_told_while_they_are_frozen(caplog):
    frozen = {"MODEL.FREEZE_LAYERS": "['stem', 'dead']", "SOLVER.FREEZE_ITERS": PATIENCE}
    assert told(caplog, Parts(), PATIENCE + 2, **frozen) == []
    assert told(caplog, Parts(), 2 * PATIENCE - 1, **frozen) == [
        "1 parameter does not train, as no gradient reached it in the 9 updates so far: dead.weight"
    ]
    assert len(told(caplog, Parts(), 2 * PATIENCE, **frozen)) == 1


def test_a_rate_of_0_lets_nothing_move_and_is_no_fault(caplog):
    assert told(caplog, Parts(), **{"SOLVER.BASE_LR": 0.0}) == []


def test_an_adversary_is_not_told_before_its_first_turn(caplog):
    model = Game()
    model.dead.requires_grad_(False)
    turns = {"SOLVER.ADVERSARY.START_EPOCH": 1}
    assert told(caplog, model, 2 * PATIENCE, AlternatingStep, epoch=0, **turns) == []
    assert told(caplog, model, 2 * PATIENCE, AlternatingStep, epoch=1, **turns) == []
    with torch.no_grad():
        model.adversary.bias.data = model.adversary.bias.data[:0]  # of no use any more
    model.adversary.forward = lambda x: x @ model.adversary.weight.T
    assert told(caplog, model, 2 * PATIENCE, AlternatingStep, epoch=1, **turns) == [
        "1 parameter does not train, as no gradient reached it in 10 updates: adversary.bias"
    ]


def test_an_adversary_that_has_no_turn_is_told_by_the_step_alone(caplog):
    model = Game()
    model.dead.requires_grad_(False)
    assert told(caplog, model, 2 * PATIENCE) == []


@pytest.mark.parametrize(
    ("held", "count"),
    [
        ([nn.Linear(2, 2)], 2),
        ({"a": (nn.Linear(2, 2), nn.Linear(2, 2, bias=False))}, 3),
        ([nn.Parameter(torch.ones(1))], 1),
        ([nn.Linear(2, 2).requires_grad_(False)], 0),  # a teacher
        (nn.ModuleList([nn.Linear(2, 2)]), 0),
        ([1, "a", torch.ones(2)], 0),
    ],
)
def test_parameters_in_a_plain_container_are_found(caplog, held, count):
    model = Tiny()
    model.heads.own = held
    assert hidden_parameters(model) == ({"heads.own": count} if count else {})
    found = told(caplog, model, updates=1)
    assert len(found) == bool(count)
    if count:
        assert f"heads.own: a plain container of modules or parameters; {count} of" in found[0]


def test_a_list_that_refers_to_parts_of_the_model_hides_nothing():
    model = Tiny()
    model.order = [model.stem, model.trunk]
    assert hidden_parameters(model) == {}
