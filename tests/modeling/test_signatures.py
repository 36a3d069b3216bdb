"""A part of a user's own that takes other arguments is told before any data is read."""

import re

import pytest
import torch
from torch import nn

from plugins.config import setup_cfg
from plugins.errors import InputError
from plugins.modeling.dry_build import build_dry, check_model
from plugins.modeling.heads import VideoHead
from plugins.modeling.losses import Loss, build_losses
from plugins.modeling.losses.base import Outputs, loss_of_batch
from plugins.modeling.signatures import calls
from plugins.registry import HEADS, LOSS, SELF_ATTACK, TEMPORAL
from plugins.utils.own_code import file_of
from tests.helpers.small_runs import CONFIG


class TwoArguments(nn.Module):
    key = "loss_two"

    def __init__(self, cfg):
        super().__init__()

    def forward(self, outputs, targets):
        return outputs["features"].mean()


class TwoValues(Loss):
    key = "loss_two"

    def value(self, outputs, targets):
        return outputs["features"].mean()


class PlainFunction:
    key = "loss_two"

    def __init__(self, cfg):
        pass

    def __call__(self, outputs):
        return outputs["features"].mean()


class NeedsMore(nn.Module):
    def __init__(self, cfg):
        super().__init__()

    def forward(self, maps, modalities):
        return maps.mean(dim=(1, 3, 4))


class WithoutConfig(Loss):
    key = "loss_two"

    def __init__(self):
        super().__init__()


class WithoutInit(nn.Module):
    def forward(self, maps):
        return maps.mean(dim=(1, 3, 4))


class HeadWithoutTargets(VideoHead):
    def forward(self, features):
        return features


class Fits(TwoArguments):
    def forward(self, outputs, *labels):
        return outputs["features"].mean()


@pytest.mark.parametrize(
    ("registry", "key", "part", "message"),
    [
        (LOSS, "MODEL.LOSSES.NAME", TwoArguments, r"\.forward\(outputs, targets\): too many "),
        (LOSS, "MODEL.LOSSES.NAME", TwoValues, r"\.value\(outputs, targets\): too many positional"),
        (LOSS, "MODEL.LOSSES.NAME", PlainFunction, r"\.__call__\(outputs\): too many positional"),
        (LOSS, "MODEL.LOSSES.NAME", WithoutConfig, r"\(\): too many positional arguments"),
        (TEMPORAL, "MODEL.TEMPORAL.NAME", WithoutInit, r"\(\): too many positional arguments"),
        (TEMPORAL, "MODEL.TEMPORAL.NAME", NeedsMore, r"\.forward\(maps, modalities\): missing "),
        (HEADS, "MODEL.HEADS.NAME", HeadWithoutTargets, r"\.forward\(features\): too many positi"),
    ],
)
def test_a_part_that_takes_other_arguments_is_named(registry, key, part, message, monkeypatch):
    monkeypatch.setitem(registry._obj_map, part.__name__, part)
    changes = ["MODEL.META_ARCHITECTURE", "VVIBaseline", "MODEL.TEMPORAL.NAME", "TemporalMean"]
    cfg = setup_cfg(str(CONFIG), [*changes, key, part.__name__])
    with pytest.raises(InputError, match=rf"^{key}: {part.__name__}.*{message}.*; expected \w+\("):
        check_model(cfg, {}, 0)


class OfFrames(nn.Module):
    def __init__(self, cfg):
        super().__init__()

    def forward(self, maps):
        return maps.mean(dim=(3, 4))


class OfBatch(OfFrames):
    def forward(self, maps):
        return maps.mean(dim=(0, 1, 3, 4))


class Number(OfFrames):
    def forward(self, maps):
        return 3


HERE = file_of(TwoArguments)


@pytest.mark.parametrize(
    ("part", "found"),
    [(OfFrames, "a tensor (4, 4, 512)"), (OfBatch, "a tensor (512,)"), (Number, "3")],
)
def test_a_temporal_part_that_gives_no_vector_for_each_clip_is_named(part, found, monkeypatch):
    monkeypatch.setitem(TEMPORAL._obj_map, part.__name__, part)
    changes = ["MODEL.META_ARCHITECTURE", "VVIBaseline", "INPUT.CLIP.LENGTH", "4"]
    cfg = setup_cfg(str(CONFIG), [*changes, "MODEL.TEMPORAL.NAME", part.__name__])
    message = rf"^MODEL.TEMPORAL.NAME: {part.__name__} \({HERE}\): it returned {re.escape(found)}, "
    message += r"called with maps \(4, 4, 512, 4, 2\) of .*; expected \(4, 512\)$"
    with pytest.raises(InputError, match=message):
        check_model(cfg, {"INPUT.SIZE_TRAIN": (64, 32)}, 0)


class ReadsFeats(Loss):
    key = "loss_own"

    def value(self, outputs, targets, modalities):
        return outputs["feats"].mean()


class OfEachItem(TwoArguments):
    def forward(self, outputs, targets, modalities):
        return outputs["features"].mean(dim=1)


class OwnMistake(ReadsFeats):
    def value(self, outputs, targets, modalities):
        return {"a": outputs["features"]}["feats"]  # not of the outputs


class LateInit(nn.Module):
    key = "loss_own"

    def __init__(self, cfg):
        self.weight = nn.Parameter(torch.ones(1))
        super().__init__()


class NoInit(Loss):
    key = "loss_own"

    def __init__(self, cfg):
        self.weight = 0.5

    def value(self, outputs, targets, modalities):
        return self.weight * outputs["features"].mean()


class ValueAlone(nn.Module):
    key = "loss_own"

    def __init__(self, cfg):
        super().__init__()

    def value(self, outputs, targets, modalities):
        return outputs["features"].mean()


class NoValue(Loss):
    key = "loss_own"


class Forwardless(nn.Module):
    def __init__(self, cfg):
        super().__init__()


NAMES = "outputs has no 'feats'; it has cls_outputs, pred_class_logits, features"
NAME = "MODEL.LOSSES.NAME"
INIT = "its __init__ does not call super().__init__(), or does so too late; expected that call bef"


@pytest.mark.parametrize(
    ("registry", "key", "part", "message"),
    [
        (LOSS, NAME, ReadsFeats, f"{NAME}: ReadsFeats ({HERE}): loss_own: ReadsFeats: {NAMES}"),
        (LOSS, NAME, OfEachItem, f"{NAME}: OfEachItem ({HERE}): loss_two: the loss of a batch is a "
         "tensor (8,); expected a tensor with one number"),
        (LOSS, NAME, LateInit, f"{NAME}: LateInit: {INIT}"),
        (LOSS, NAME, NoInit, f"{NAME}: NoInit: {INIT}"),
        (LOSS, NAME, ValueAlone, NAME + ": ValueAlone has no forward; expected"),
        (LOSS, NAME, NoValue, NAME + ": NoValue has no value; expected value(o"),
        (TEMPORAL, "MODEL.TEMPORAL.NAME", LateInit, "MODEL.TEMPORAL.NAME: LateInit: its __in"),
        (TEMPORAL, "MODEL.TEMPORAL.NAME", Forwardless, "MODEL.TEMPORAL.NAME: Forwardless has no "),
        (SELF_ATTACK, "MODEL.SELF_ATTACK.KIND", LateInit, "MODEL.SELF_ATTACK.KIND: LateInit: "),
    ],
)  # fmt: skip
def test_what_a_part_lacks_is_told_before_data_is_read(registry, key, part, message, monkeypatch):
    monkeypatch.setitem(registry._obj_map, part.__name__, part)
    changes = ["MODEL.TEMPORAL.NAME", "TemporalMean", "INPUT.CLIP.LENGTH", "2"]
    cfg = setup_cfg(str(CONFIG), [*changes, key, part.__name__])
    with pytest.raises(InputError) as caught:
        check_model(cfg, {"INPUT.SIZE_TRAIN": (32, 16)}, 8)
    assert str(caught.value).startswith(message)


def test_another_mistake_in_a_loss_is_not_taken_for_a_missing_output(monkeypatch):
    monkeypatch.setitem(LOSS._obj_map, "OwnMistake", OwnMistake)
    cfg = setup_cfg(str(CONFIG), ["MODEL.LOSSES.NAME", "OwnMistake"])
    place = rf"^MODEL.LOSSES.NAME: OwnMistake .* \(8, 512\).*: KeyError in {HERE}:\d+: 'feats'$"
    with pytest.raises(InputError, match=place):
        check_model(cfg, {"INPUT.SIZE_TRAIN": (64, 32)}, 8)
    (loss,) = build_losses(cfg)
    with pytest.raises(KeyError, match=r"^'feats'$"):
        loss_of_batch(loss, Outputs(features=torch.ones(1)), None, None)


def test_cells_that_do_not_fit_in_a_map_are_told():
    cfg = setup_cfg(
        str(CONFIG), ["MODEL.TEMPORAL.NAME", "STIG", "MODEL.TEMPORAL.STIG.STRIPES", "40"]
    )
    with pytest.raises(InputError, match=r"STRIPES: 40 stripes do not fit in maps of 8 rows"):
        check_model(cfg, {"INPUT.SIZE_TRAIN": (64, 32)}, 0)


def test_parts_that_fit_are_left_alone(monkeypatch):
    monkeypatch.setitem(LOSS._obj_map, "Fits", Fits)
    cfg = setup_cfg(str(CONFIG), ["MODEL.LOSSES.NAME", "Fits,CrossEntropyLoss"])
    check_model(cfg, {}, 0)
    keys = {key for key, *_ in calls(build_dry(cfg))}
    assert keys == {"MODEL.LOSSES.NAME", "MODEL.HEADS.NAME", "MODEL.TEMPORAL.NAME"}
