"""The perturbation set of a user's attack: its faults are told before data, by name and file."""

from pathlib import Path

import pytest
import torch

from plugins.attacks.attack import read_attack
from plugins.attacks.own_set import try_own_set
from plugins.attacks.per_query import FNA
from plugins.config import setup_cfg
from plugins.errors import InputError
from plugins.robustness import RobustEvaluator
from tests.helpers.small_runs import CONFIG
from tests.helpers.user_code import nothing_left_behind

OWN = """
from plugins.attacks import PerturbationSet
from plugins.attacks.per_query import FNA
from plugins.registry import ATTACK

class LowerHalf(PerturbationSet):
    def average_tied(self, clips):
        clips = super().average_tied(clips).clone()
        clips[..., : clips.shape[-2] // 2, :] = 0
        return clips

@ATTACK.register()
class TrousersFNA(FNA):
    def perturbation_set(self, batch):
        return LowerHalf(self.threat, batch)
"""
SET = "TEST.ATTACKS: TrousersFNA (set_of_a_user.py): LowerHalf (set_of_a_user.py): "


@pytest.fixture(autouse=True)
def _forget(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with nothing_left_behind():
        yield


def check(folder, old="", new="", *words, after=""):
    text = OWN.replace(old, new) if old else OWN
    assert not old or text != OWN
    (folder / "set_of_a_user.py").write_text(text + after)
    words = ["MODEL.DEVICE", "cpu", "TEST.EVALUATOR", "RobustEvaluator", *words]
    words += ["TEST.ATTACKS", "TrousersFNA"]
    cfg = setup_cfg(str(CONFIG), words, ["set_of_a_user.py"])
    RobustEvaluator.check_config(cfg)


@pytest.mark.parametrize("words", [(), ("ATTACK.FRAMES", "sparse"), ("ATTACK.NORM", "l2")])
def test_one_that_fits_passes_and_draws_nothing(words, tmp_path):
    before = torch.get_rng_state()
    check(tmp_path, "", "", *words)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("return LowerHalf", "LowerHalf", "TEST.ATTACKS: TrousersFNA (set_of_a_user.py): "
         "perturbation_set returned None; expected a PerturbationSet"),
        ("(self, batch)", "(self)", "TEST.ATTACKS: TrousersFNA (set_of_a_user.py): "
         "perturbation_set: too many positional arguments; expected perturbation_set(self, batch)"),
        ("return clips", "return clips.mean(dim=1)", SET + "average_tied returned a tensor (2, "),
        ("        return clips\n", "", SET + "average_tied returned None, called with clips (2, "),
        ("return Low", "self.learned\n        return Low", "TEST.ATTACKS: TrousersFNA (set_of_a_us"
         "er.py): perturbation_set: AttributeError in set_of_a_user.py:15: 'TrousersFNA' object"),
        (".clone()", ".klone()", SET + "average_tied: AttributeError in set_of_a_user.py:8: 'Tens"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_with_set_file_and_what_was_expected(old, new, message, tmp_path):
    with pytest.raises(InputError) as caught:
        check(tmp_path, old, new)
    assert str(caught.value).startswith(message), caught.value


def test_images_outside_the_range_are_told(tmp_path):
    new = "project(self, images):\n        return self.clean + 300\n\n    def unused(self, clips)"
    with pytest.raises(InputError) as caught:
        check(tmp_path, "average_tied(self, clips)", new)
    assert str(caught.value).startswith(SET + "project returned images in [3")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return LowerHalf", "open(batch['img_paths'][0][0])\n        return LowerHalf"),
        ("return LowerHalf", "self.learned\n        return LowerHalf"),
    ],
)
def test_a_set_that_needs_real_data_is_left_to_the_first_batch(old, new, tmp_path):
    prepare = "\n\n    def prepare(self, features_of, batches):\n        return self\n"
    check(tmp_path, old, new, after=prepare)


def test_a_defense_is_tried_on_images_of_training(monkeypatch):
    Path("set_of_a_user.py").write_text(OWN)
    words = ["INPUT.SIZE_TRAIN", "[24,12]", "DEFENSE.INNER", "TrousersFNA"]
    cfg = setup_cfg(str(CONFIG), words, ["set_of_a_user.py"])
    attack = read_attack("TrousersFNA", cfg, "DEFENSE.INNER")
    sizes = []
    kept = type(attack).perturbation_set
    monkeypatch.setattr(
        type(attack),
        "perturbation_set",
        lambda self, batch: sizes.append(batch["images"].shape[-2:]) or kept(self, batch),
    )
    try_own_set(attack, "TrousersFNA", "DEFENSE.INNER", cfg)
    try_own_set(attack, "TrousersFNA", "TEST.ATTACKS", cfg)
    assert sizes == [(24, 12), tuple(cfg.INPUT.SIZE_TEST)]


def test_no_set_of_the_package_is_tried(monkeypatch):
    monkeypatch.setattr("plugins.attacks.own_set.random_batch", lambda frames, size: 1 / 0)
    RobustEvaluator.check_config(setup_cfg(str(CONFIG), ["TEST.ATTACKS", "FNA,SMA,ODFA"]))


def test_in_python_the_call_names_the_attack():
    class Nothing(FNA):
        def perturbation_set(self, batch):
            pass

    batch = {"images": torch.full((2, 3, 4, 4), 9.0), "targets": torch.tensor([0, 1])}
    with pytest.raises(InputError, match=r"^Nothing: perturbation_set returned None; expected a "):
        Nothing(eps=8)(lambda images: images.mean(dim=(2, 3)), batch, batch)
