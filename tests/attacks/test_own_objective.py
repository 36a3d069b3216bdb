"""The objective of a user's attack: its faults are told before data, by name and file."""

import pytest
import torch

from plugins.attacks.attack import read_attack
from plugins.attacks.own_objective import try_own_objective
from plugins.attacks.per_query import FNA
from plugins.config import setup_cfg
from plugins.errors import InputError
from plugins.robustness import RobustEvaluator
from tests.helpers.small_runs import CONFIG
from tests.helpers.user_code import nothing_left_behind

HEAD = """
from torch.nn.functional import normalize
from plugins.attacks.per_query import FNA
from plugins.registry import ATTACK

def away(features, guides):
    distances = 1 - normalize(features) @ normalize(guides.gallery).T
    {body}

@ATTACK.register()
class UsersAttack(FNA):
    objective = {objective}
"""
MEAN = "return distances.mean(dim=1)"


@pytest.fixture(autouse=True)
def _forget():
    with nothing_left_behind():
        yield


def config(folder, body=MEAN, objective="staticmethod(away)", old="", new=""):
    file = folder / "attack_of_a_user.py"
    text = HEAD.format(body=body, objective=objective)
    file.write_text(text.replace(old, new) if old else text)
    words = ["MODEL.DEVICE", "cpu", "MODEL.TEMPORAL.NAME", "TemporalMean"]
    words += ["TEST.EVALUATOR", "RobustEvaluator", "TEST.ATTACKS", "UsersAttack"]
    return setup_cfg(str(CONFIG), words, [str(file)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"body": "return distances.mean()"}, "objective returned a tensor (); expected a tensor "
         "(5,), one value for each row, called with features (5, 512) and a gallery (7, 512)"),
        ({"body": "return None"}, "objective returned None; expected a tensor (5,)"),
        ({"objective": "away"}, "objective is a plain function, which Python calls with the attack "
         "as its first argument; expected objective = staticmethod(away)"),
        ({"objective": "staticmethod(lambda features: features)"},
         "objective: too many positional arguments; expected objective(features, guides)"),
        ({"old": ".T", "new": ""}, "objective called with features (5, 512) and a gallery (7, 512):"
         " RuntimeError in attack_of_a_user.py:7: mat1 and mat2 shapes cannot be multiplied"),
        ({"body": "return distances.detach().mean(dim=1)"},
         "objective has no gradient with respect to the features; expected one without detach"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_with_attack_file_and_what_was_expected(
    changes, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    cfg = config(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        RobustEvaluator.check_config(cfg)
    start = "TEST.ATTACKS: UsersAttack (attack_of_a_user.py): objective"
    assert str(caught.value).startswith(start) and message in str(caught.value), caught.value


def test_one_that_fits_passes_and_draws_nothing(tmp_path):
    cfg = config(tmp_path)
    before = torch.get_rng_state()
    RobustEvaluator.check_config(cfg)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_objective_without_gradient_is_fine_for_an_attack_that_needs_none(tmp_path):
    cfg = config(tmp_path, body="return distances.detach().mean(dim=1)")
    attack = read_attack("UsersAttack", cfg, "TEST.ATTACKS")
    attack.recipe = type(attack.recipe)("square", steps=1)
    try_own_objective(attack, "UsersAttack", "TEST.ATTACKS", cfg)


def test_no_objective_of_the_package_is_tried(monkeypatch, tmp_path):
    monkeypatch.setattr("plugins.attacks.own_objective.dry_feature_length", lambda cfg: 1 / 0)
    cfg = setup_cfg(str(CONFIG), ["TEST.ATTACKS", "FNA,SMA,ODFA"])
    RobustEvaluator.check_config(cfg)


class Scalar(FNA):
    objective = staticmethod(lambda features, guides: features.mean())


class Detached(FNA):
    objective = staticmethod(lambda features, guides: features.detach().mean(dim=1))


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (Scalar, r"^Scalar: objective returned a tensor \(\); expected a tensor \(2,\), one value"),
        (Detached, "^Detached: objective has no gradient with respect to the features; expected "),
    ],
)
def test_in_python_the_first_call_names_the_attack_and_not_the_model(attack, message):
    batch = {"images": torch.full((2, 3, 4, 4), 9.0), "targets": torch.tensor([0, 1])}
    with pytest.raises(InputError, match=message):
        attack()(lambda images: images.flatten(1), batch, batch)
