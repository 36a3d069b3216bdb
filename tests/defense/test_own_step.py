"""A defense step of a user: what it lacks or returns wrong is one line, by name and file."""

import re

import pytest
import torch

from plugins.defense.adversarial_step import AdversarialStep
from plugins.engine.checks import check_part, check_step
from plugins.engine.steps import Step
from plugins.errors import InputError
from plugins.registry import STEP
from tests.helpers.defense_toys import run, step_of, tiny_cfg


def step_that_returns(change, **methods):
    """A class as a user writes it, whose ``craft`` returns ``change(batch)``."""

    class NoiseStep(AdversarialStep):
        def craft(self, batch, index=0):
            return change(batch)

    for name, method in methods.items():
        setattr(NoiseStep, name, method)
    return NoiseStep


def with_images(change):
    return lambda batch: {**batch, "images": change(batch["images"])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: None, "returned None; expected a batch, {**batch, 'images': images}"),
        (lambda batch: batch["images"], "returned tensor("),
        (lambda batch: {"images": batch["images"]}, "returned a batch without targets; expected {"),
        (with_images(lambda images: None), "returned None as images; expected a tensor (8, 3, 16"),
        (with_images(lambda images: images[1:]), "returned images (7, 3, 16, 8); expected (8, 3, "),
        (with_images(lambda images: images + 8), "returned images in [8, 263]; expected [0, 255]"),
        (with_images(lambda images: images / 0), "returned images in [nan, nan]; expected [0, "),
    ],
    ids=["none", "tensor", "targets", "no images", "63", "range", "nan"],
)
def test_what_craft_returns_is_looked_at_before_it_is_trained_on(change, message):
    step = step_of(kind=step_that_returns(change))
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        run(step)
    start = "SOLVER.STEP: NoiseStep (tests/defense/test_own_step.py): craft "
    assert str(caught.value).startswith(start + message), caught.value
    assert all(torch.equal(before[name], now) for name, now in step.model.state_dict().items())


def test_triplets_are_needed_where_a_loss_reads_them():
    opts = "DEFENSE.INNER", "AntiCollapse", "DEFENSE.TRIPLET_WEIGHT", 1.0
    step = step_of(*opts, kind=step_that_returns(dict))
    with pytest.raises(InputError, match="craft returned a batch without triplets"):
        run(step)


def test_images_of_the_whole_range_train():
    turned = with_images(lambda images: 255 - images.round().to(torch.uint8))
    assert run(step_of(kind=step_that_returns(turned)))["total_loss"] > 0


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"craft": lambda self, batch: batch}, "craft(self, batch): too many positional arguments; "
         "expected craft(self, batch, index)"),
        ({"losses": lambda self, batch: {}}, "losses(self, batch): too many positional arguments; "
         "expected losses(self, batch, attacked)"),
        ({"craft": staticmethod(lambda batch, index=0: batch)}, ""),
    ],
    ids=["index", "losses", "static"],
)  # fmt: skip
def test_arguments_are_checked_with_the_config(methods, message, monkeypatch):
    monkeypatch.setitem(STEP._obj_map, "NoiseStep", step_that_returns(dict, **methods))
    cfg = tiny_cfg("SOLVER.STEP", "NoiseStep")
    if not message:
        return check_part(STEP, "NoiseStep", "SOLVER.STEP", cfg)
    expected = re.escape(f"SOLVER.STEP: NoiseStep (tests/defense/test_own_step.py): {message}")
    with pytest.raises(InputError, match=f"^{expected}"):
        check_part(STEP, "NoiseStep", "SOLVER.STEP", cfg)


@pytest.mark.slow
def test_a_step_without_run_step_is_told_before_any_data_is_read(monkeypatch):
    class LazyStep(Step):
        pass

    monkeypatch.setitem(STEP._obj_map, "LazyStep", LazyStep)
    with pytest.raises(InputError) as caught:
        check_part(STEP, "LazyStep", "SOLVER.STEP", tiny_cfg("SOLVER.STEP", "LazyStep"))
    assert str(caught.value) == (
        "SOLVER.STEP: LazyStep (tests/defense/test_own_step.py) has no run_step; expected "
        "run_step(self), or a subclass of SimpleStep or AdversarialStep"
    )


def test_a_part_that_is_no_step_is_told_before_any_data_is_read(monkeypatch):
    monkeypatch.setitem(STEP._obj_map, "NoStep", type("NoStep", (), {"__module__": __name__}))
    message = r"^SOLVER\.STEP: NoStep \(tests/defense/test_own_step\.py\) is no subclass of Step; "
    with pytest.raises(InputError, match=message):
        check_step(tiny_cfg("SOLVER.STEP", "NoStep"))
