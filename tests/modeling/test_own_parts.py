"""Own losses and temporal parts with a fault of shape or number: told before data, by file."""

from pathlib import Path

import pytest
from torch import nn

from plugins.config import setup_cfg
from plugins.errors import InputError
from plugins.modeling.dry_build import build_dry, check_model
from plugins.modeling.own_parts import counted, labels_of, map_shapes, output_shapes
from tests.helpers.small_runs import CONFIG
from tests.helpers.user_code import nothing_left_behind

HEAD = """
import torch
from torch import nn
from plugins.modeling.losses import Loss
from plugins.registry import LOSS, TEMPORAL

@LOSS.register()
class UsersLoss(Loss):
    key = "loss_users"

    def __init__(self, cfg):
        super().__init__()
        self.map = nn.Linear({length}, {length})
        self.threshold = float(torch.ones(1) * 0.5)  # which the meta device refuses

    def value(self, outputs, targets, modalities):
        {loss}

@TEMPORAL.register()
class UsersPart(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.map = nn.Linear({length}, {length})

    def forward(self, maps):
        {part}
"""
MEAN = "return maps.mean(dim=(1, 3, 4))"
FITS = "return self.map(outputs['features'])[targets == targets[0]].mean()"


@pytest.fixture(autouse=True)
def _forget():
    with nothing_left_behind():
        yield


def check(folder, batch=8, length=512, loss=FITS, part=MEAN, **changes):
    """Check a small model with the two parts of a user's file, as a training does."""
    file = folder / "parts_of_a_user.py"
    file.write_text(HEAD.format(length=length, loss=loss, part=part))
    words = ["MODEL.TEMPORAL.NAME", "UsersPart", "INPUT.CLIP.LENGTH", "2", "MODEL.DEVICE", "cpu"]
    words += ["MODEL.LOSSES.NAME", "CrossEntropyLoss,UsersLoss", "SOLVER.IMS_PER_BATCH", "8"]
    words += [f"{key}={value}" for key, value in changes.items()]
    cfg = setup_cfg(str(CONFIG), words, [str(file)])
    check_model(cfg, {"INPUT.SIZE_TRAIN": (64, 32)}, batch)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 100}, "MODEL.TEMPORAL.NAME: UsersPart (parts_of_a_user.py), called with maps "
         "(4, 2, 512, 4, 2) of (clips, frames, channels, height, width): RuntimeError in "
         "parts_of_a_user.py:26: mat1 and mat2 shapes cannot be multiplied (4x512 and 100x100)"),
        ({"part": "return maps.mean(dim=(1, 3, 4))[:, :64]"}, "MODEL.TEMPORAL.NAME: UsersPart "
         "(parts_of_a_user.py): it returned a tensor (4, 64), called with maps (4, 2, 512, 4, 2) "
         "of (clips, frames, channels, height, width); expected (4, 512)"),
        ({"part": "maps.zero_(); return maps.mean((1, 3, 4))"}, "MODEL.TEMPORAL.NAME: UsersPart "
         "(parts_of_a_user.py), in the gradient of its features: RuntimeError"),
        ({"part": "return maps.mean((1, 3, 4)).long()"}, "MODEL.TEMPORAL.NAME: UsersPart "
         "(parts_of_a_user.py): its features of torch.int64 have no gradient, called with maps"),
        ({"loss": "return outputs['features'].mean(dim=1)"}, "MODEL.LOSSES.NAME: UsersLoss "
         "(parts_of_a_user.py): loss_users: the loss of a batch is a tensor (8,); expected a "
         "tensor with one number, such as a mean over the batch"),
        ({"loss": "return outputs['feats'].mean()"}, "MODEL.LOSSES.NAME: UsersLoss "
         "(parts_of_a_user.py): loss_users: UsersLoss: outputs has no 'feats'; it has"),
        ({"loss": "return nn.Linear(100, 1)(outputs['features']).mean()"}, "MODEL.LOSSES.NAME: "
         "UsersLoss (parts_of_a_user.py), called with cls_outputs (8, 4), pred_class_logits "
         "(8, 4), features (8, 512): RuntimeError in parts_of_a_user.py:17: mat1 and mat2 shapes"),
        ({"loss": "x = outputs['features'].exp(); y = x.mean(); x += 1; return y * x.mean()"},
         "parts_of_a_user.py), called with cls_outputs"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_with_part_file_and_what_it_was_given(
    changes, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if "length" in changes:
        changes = changes | {"part": "return self.map(maps.mean(dim=(1, 3, 4)))"}
    with pytest.raises(InputError) as caught:
        check(tmp_path, **changes)
    assert message in str(caught.value), caught.value


def test_a_loss_may_change_its_inputs_in_place_as_in_training(tmp_path):
    check(tmp_path, loss="return outputs['features'].clamp_(min=0).mean()")


def test_parts_that_read_numbers_pass_and_an_evaluation_asks_no_loss(tmp_path):
    check(tmp_path)
    check(tmp_path, batch=0, loss="return 1 / 0")


def test_the_shapes_are_those_of_the_real_model():
    words = ["MODEL.TEMPORAL.NAME", "TemporalMean", "MODEL.DEVICE", "cpu", "INPUT.CLIP.LENGTH", "2"]
    cfg = setup_cfg(str(CONFIG), words)
    real = counted(cfg, "cpu")
    model = build_dry(cfg).train()
    (maps,) = map_shapes(model, model.temporal, 2, (64, 32))
    outputs = output_shapes(model, cfg, 8)
    assert (maps, outputs["features"]) == ((4, 2, 512, 4, 2), (8, 512))
    assert outputs["pred_class_logits"] == (8, real.MODEL.HEADS.NUM_CLASSES)
    targets, modalities = labels_of(real, 8)
    people, count = targets.unique(return_counts=True)
    assert set(count.tolist()) == {cfg.DATALOADER.NUM_INSTANCE} and len(people) > 1
    assert all(modalities[targets == person].unique().tolist() == [0, 1] for person in people)


@pytest.mark.slow
def test_no_part_of_the_package_is_tried(monkeypatch):
    def refuse(*arguments, **more):
        raise AssertionError("a part of the package was tried")

    monkeypatch.setattr("plugins.modeling.own_parts.on_devices", refuse)
    cfg = setup_cfg(str(CONFIG), ["MODEL.DEVICE", "cpu"])
    assert isinstance(check_model(cfg, {"INPUT.SIZE_TRAIN": (64, 32)}, 8), nn.Module)


def test_a_temporal_part_that_is_no_module_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("plain_part.py").write_text(
        "from plugins.registry import TEMPORAL\n@TEMPORAL.register()\nclass PlainPart:\n"
        "    def __init__(self, cfg): pass\n    def forward(self, maps): return maps\n"
    )
    words = ["MODEL.TEMPORAL.NAME", "PlainPart", "MODEL.DEVICE", "cpu"]
    cfg = setup_cfg(str(CONFIG), words, ["plain_part.py"])
    with pytest.raises(InputError, match=r"PlainPart \(plain_part\.py\).* no torch\.nn\.Module"):
        check_model(cfg, {"INPUT.SIZE_TRAIN": (64, 32)}, 8)
