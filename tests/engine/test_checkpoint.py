"""Checkpoints: whole or not at all, refused when they do not fit, never unpickled."""

import logging
import os
import pickle
import random
import shlex
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from fastreid.layers.batch_norm import FrozenBatchNorm
from torch import nn

from plugins.config import flatten, setup_cfg
from plugins.engine.checkpoint import (
    SCHEDULE,
    BestMetric,
    Checkpointer,
    RandomState,
    SavedConfig,
    check_progress,
    check_schedule,
    read_checkpoint,
)
from plugins.engine.interruption import Interruption
from plugins.errors import InputError


class Small(nn.Module):
    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 4)
        self.heads = nn.Linear(4, classes, bias=False)


def saved(folder: Path, name: str = "model_0000", **extra) -> Path:
    Checkpointer(Small(), str(folder), **extra).save(name, epoch=0)
    return folder / f"{name}.pth"


def test_round_trip_restores_weights_and_points_at_the_newest(tmp_path):
    model = Small()
    Checkpointer(model, str(tmp_path)).save("model_0000", epoch=0)
    other = Small()
    checkpointer = Checkpointer(other, str(tmp_path))
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000.pth")
    assert checkpointer.load(checkpointer.get_checkpoint_file()) == {"epoch": 0}
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.slow
def test_killed_while_writing_leaves_the_previous_checkpoint(tmp_path):
    path = saved(tmp_path)
    before = path.read_bytes()
    code = f"""
import os, signal, torch
from plugins.utils.io import write_atomically
from pathlib import Path

def write(file):
    file.write(b"half of a checkpoint")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

write_atomically(Path({str(path)!r}), write)
"""
    killed = subprocess.run([sys.executable, "-c", code])
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert (tmp_path / "last_checkpoint").read_text() == path.name
    read_checkpoint(str(path))
    saved(tmp_path)
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    class Unsaveable:
        def state_dict(self):
            return {"object": lambda: None}

    with pytest.raises(Exception, match=r"pickle|local object"):
        saved(tmp_path, thing=Unsaveable())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_named_and_the_others_listed(tmp_path, share):
    good, bad = saved(tmp_path, "model_0000"), saved(tmp_path, "model_0001")
    whole = bad.read_bytes()
    bad.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError) as caught:
        Checkpointer(Small()).load(str(bad))
    assert str(caught.value).startswith(f"{bad}: not a whole checkpoint")
    assert str(good) in str(caught.value)
    Checkpointer(Small()).load(str(good))


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"weights": [torch.zeros(1)]}, path)
    with pytest.raises(InputError, match=r"model\.pth: not a checkpoint: it has no 'model'"):
        Checkpointer(Small()).load(str(path))


@pytest.mark.parametrize(
    ("content", "told", "weights"),
    [
        ({"net": Small().state_dict(), "epoch": 3}, "it has net, epoch; ", "net"),
        ({"state_dict": {f"module.{k}": v for k, v in Small().state_dict().items()}, "arch": "r50"},
         "it has state_dict, arch; ", "state_dict"),
        ({"epoch": 3}, "it has epoch", ""),
        ([1], "it holds a list", ""),
    ],
)  # fmt: skip
def test_a_foreign_file_tells_what_it_holds_and_how_to_take_its_weights(
    tmp_path, content, told, weights
):
    path = tmp_path / "their model.pth"
    torch.save(content, path)
    with pytest.raises(InputError) as caught:
        Checkpointer(Small()).load(str(path), checkpointables=[])
    message = str(caught.value)
    assert message.startswith(
        f"{path}: not a checkpoint: it has no 'model' of named tensors; {told}"
    )
    if not weights:
        assert message.endswith(told)
        return
    line = f"MODEL.WEIGHTS takes the weights in '{weights}' alone: python "
    flag, code = shlex.split(message.partition(line)[2])
    assert flag == "-c"
    exec(code)
    model = Small()
    Checkpointer(model).load(str(tmp_path / "their model_weights.pth"), checkpointables=[])
    assert torch.equal(model.backbone.weight, next(iter(content[weights].values())))


def test_a_torch_script_file_is_named(tmp_path):
    path = tmp_path / "script.pth"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(
        InputError, match=r"script\.pth: a TorchScript file; expected a checkpoint: "
    ):
        Checkpointer(Small()).load(str(path), checkpointables=[])


def test_a_state_dict_of_another_model_is_refused_before_a_classifier_is_told(tmp_path, caplog):
    """fastreid's logger would else name heads.weight, which no key of the file is."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "foreign.pth"
    torch.save({"conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match=r"tensors do not fit"):
        Checkpointer(Small()).load(str(path), checkpointables=[])
    assert "heads.weight" not in caplog.text
    torch.save(Small().backbone.state_dict(prefix="backbone."), path)
    Checkpointer(Small()).load(str(path), checkpointables=[])
    assert f"{path}: heads.weight is not in the file, so that it is not loaded" in caplog.text


def test_objects_are_never_unpickled(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "model.pth"
    torch.save({"model": Harmful()}, path)
    with pytest.raises(InputError, match=r"model\.pth: holds posix\.mkdir, which is not read"):
        Checkpointer(Small()).load(str(path))
    assert not (tmp_path / "harm").exists()


def test_inverted_bytes_of_a_weight_are_refused(tmp_path):
    good, bad = saved(tmp_path, "model_0000"), saved(tmp_path, "model_final")
    data = bad.read_bytes()
    weights = Small().backbone.weight.numel() * 4
    start = data.index(read_checkpoint(str(bad))["model"]["backbone.weight"].numpy().tobytes())
    inverted = bytes(255 - byte for byte in data[start : start + weights])
    bad.write_bytes(data[:start] + inverted + data[start + weights :])
    for checkpointables in (None, []):
        with pytest.raises(InputError, match=r"model_final\.pth: damaged: the checksum") as caught:
            Checkpointer(Small()).load(str(bad), checkpointables)
        assert str(caught.value).endswith(f"others in its folder: {good}")


class TestPlainStateDict:
    def test_its_weights_are_loaded(self, tmp_path):
        weights = Small().state_dict()
        torch.save(weights, tmp_path / "weights.pth")
        model = Small()
        Checkpointer(model).load(str(tmp_path / "weights.pth"), checkpointables=[])
        assert torch.equal(model.backbone.weight, weights["backbone.weight"])

    def test_a_run_does_not_go_on_from_it(self, tmp_path):
        torch.save(Small().state_dict(), tmp_path / "weights.pth")
        with pytest.raises(InputError, match=r"a plain state dict, .* leave out --resume"):
            Checkpointer(Small()).load(str(tmp_path / "weights.pth"))


def test_numpy_scalars_are_named(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"model": Small().state_dict(), "metric": np.float64(1.5)}, path)
    with pytest.raises(InputError, match=r"holds numpy.*scalar, which is not read, for safety"):
        Checkpointer(Small()).load(str(path))


class TestNewestCheckpoint:
    @pytest.mark.parametrize("tag", ["", "model_0009.pth"])
    def test_stands_in_where_last_checkpoint_names_none(self, tmp_path, caplog, tag):
        saved(tmp_path, "model_0000")
        newest, _ = saved(tmp_path, "model_0001"), saved(tmp_path, "model_best")
        (tmp_path / "last_checkpoint").write_text(tag)
        checkpointer = Checkpointer(Small(), str(tmp_path))
        assert checkpointer.has_checkpoint()
        warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert not warned, "told once, where the run goes on from the file"
        assert checkpointer.get_checkpoint_file() == str(newest)
        assert f"going on from the newest checkpoint beside it, {newest}" in caplog.text

    def test_there_is_none_in_an_empty_folder(self, tmp_path):
        assert not Checkpointer(Small(), str(tmp_path)).has_checkpoint()
        assert not Checkpointer(Small(), str(tmp_path / "nowhere")).has_checkpoint()


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"MODEL\.WEIGHTS nowhere\.pth: no such file"):
        Checkpointer(Small()).load("nowhere.pth")


class TestWrongWeights:
    def test_missing_backbone_tensors_are_listed(self, tmp_path):
        path = tmp_path / "model.pth"
        torch.save({"model": {"heads.weight": torch.zeros(2, 4)}}, path)
        with pytest.raises(InputError, match=r"2 of 3 tensors .* backbone\.weight \(missing\)"):
            Checkpointer(Small()).load(str(path), checkpointables=[])

    def test_another_classifier_is_left_out_for_evaluation(self, tmp_path):
        path = saved(tmp_path)
        model = Small(classes=7)
        own = model.heads.weight.detach().clone()
        Checkpointer(model).load(str(path), checkpointables=[])
        assert torch.equal(model.heads.weight, own)
        assert torch.equal(
            model.backbone.weight, read_checkpoint(str(path))["model"]["backbone.weight"]
        )

    def test_another_classifier_is_refused_for_a_resume(self, tmp_path):
        path = saved(tmp_path)
        with pytest.raises(InputError, match=r"heads\.weight \(2, 4\) instead of \(7, 4\)"):
            Checkpointer(Small(classes=7)).load(str(path))

    def test_resume_needs_everything_that_was_trained(self, tmp_path):
        path = saved(tmp_path)
        model = Small()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        with pytest.raises(InputError, match="cannot resume from it: it lacks optimizer"):
            Checkpointer(model, optimizer=optimizer).load(str(path))

    def test_a_parallel_wrapper_s_prefix_is_removed(self, tmp_path):
        weights = Small().state_dict()
        path = tmp_path / "model.pth"
        torch.save({"model": {f"module.{key}": value for key, value in weights.items()}}, path)
        model = Small()
        Checkpointer(model).load(str(path))
        assert torch.equal(model.backbone.weight, weights["backbone.weight"])


class Network(nn.Module):
    """A stand-in with the parts of a re-ID network."""

    def __init__(self, norm: type[nn.Module] = nn.BatchNorm1d, temporal: bool = False) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 4), norm(4))
        self.heads = nn.Linear(4, 2, bias=False)
        if temporal:
            self.temporal = nn.Linear(4, 4)


class TestUnusedTensors:
    def load(self, folder: Path, weights: dict, model: nn.Module | None = None) -> nn.Module:
        torch.save({"model": weights}, folder / "model.pth")
        model = model or Network()
        Checkpointer(model).load(str(folder / "model.pth"), checkpointables=[])
        return model

    def test_of_the_feature_path_are_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"Network: 2 of its tensors .* temporal\.weight"):
            self.load(tmp_path, Network(temporal=True).state_dict())
        no_statistics = Network(lambda channels: nn.GroupNorm(2, channels))
        with pytest.raises(InputError, match=r"3 of its tensors .*backbone\.1\.running_mean"):
            self.load(tmp_path, Network().state_dict(), no_statistics)

    def test_of_others_are_named_in_one_warning(self, tmp_path, caplog):
        others = ["attack.weight", "loss_functions.0.a", "heads.cls_layer.w", "mine.b"]
        weights = Network().state_dict()
        self.load(tmp_path, weights | {name: torch.zeros(1) for name in others})
        (told,) = [record for record in caplog.records if record.levelname == "WARNING"]
        assert "4 tensors are not used" in told.getMessage()
        assert "attack.weight" in told.getMessage()

    def test_a_frozen_norm_takes_the_weights_of_a_norm_that_counts(self, tmp_path):
        weights = Network().state_dict()
        weights["backbone.1.running_var"] += 1
        model = self.load(tmp_path, weights, Network(FrozenBatchNorm))
        assert torch.equal(model.backbone[1].running_var, weights["backbone.1.running_var"])

    @pytest.mark.parametrize(
        ("change", "kind"),
        [
            (lambda w: w.to(torch.int8), "whole numbers \\(torch.int8\\)"),
            (lambda w: w.to(torch.complex64), "complex"),
            (lambda w: w.to_sparse(), "sparse"),
        ],
    )
    def test_other_kinds_of_numbers_are_refused_by_name(self, tmp_path, change, kind):
        weights = Network().state_dict()
        weights["backbone.0.weight"] = change(weights["backbone.0.weight"])
        with pytest.raises(InputError, match=rf"backbone\.0\.weight holds {kind}"):
            self.load(tmp_path, weights)

    def test_half_precision_is_taken(self, tmp_path):
        weights = {
            name: w.half() if w.is_floating_point() else w
            for name, w in Network().state_dict().items()
        }
        model = self.load(tmp_path, weights)
        assert torch.equal(model.backbone[0].weight, weights["backbone.0.weight"].float())


class TestMadeByHand:
    @pytest.mark.parametrize("model", [{0: torch.zeros(1)}, {"backbone.weight": "a"}])
    def test_a_model_without_names_or_tensors_is_refused(self, tmp_path, model):
        torch.save({"model": model}, tmp_path / "model.pth")
        with pytest.raises(InputError, match=r"its 'model' holds a .*; expected tensors by their"):
            Checkpointer(Small()).load(str(tmp_path / "model.pth"), checkpointables=[])

    @pytest.mark.parametrize(
        "state", [{"state": {}, "param_groups": []}, {"state": {}}, {}, 3, "text"]
    )
    def test_a_foreign_optimizer_is_refused(self, tmp_path, state):
        model = Small()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        path = tmp_path / "model.pth"
        torch.save({"model": model.state_dict(), "optimizer": state, "epoch": 0}, path)
        with pytest.raises(InputError, match="its 'optimizer' is not what this run saves"):
            Checkpointer(model, optimizer=optimizer).load(str(path))

    @pytest.mark.parametrize("epoch", ["a", None, 1.5, True, -2])
    def test_an_epoch_that_is_none_is_refused(self, epoch):
        with pytest.raises(InputError, match=r"m\.pth: cannot resume from it: its epoch is"):
            check_progress("m.pth", {"epoch": epoch})
        check_progress("m.pth", {"epoch": -1, "metric": 0.5})

    @pytest.mark.parametrize("metric", ["a", None, float("nan"), float("inf"), True])
    def test_a_metric_that_is_no_finite_number_is_refused(self, metric):
        with pytest.raises(InputError, match=r"m\.pth: cannot resume from it: its metric is"):
            check_progress("m.pth", {"epoch": 0, "metric": metric})

    @pytest.mark.parametrize("state", [3, {"iteration": 1}, {}])
    def test_an_interruption_that_is_none_is_refused(self, state):
        with pytest.raises(InputError, match="its 'interruption' is not what this run saves"):
            Interruption.read(state, "m.pth")

    def test_a_pickle_is_refused_without_a_warning(self, tmp_path):
        path = tmp_path / "evil.pkl"
        path.write_bytes(pickle.dumps({"model": Path("a")}))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(InputError, match=r"evil\.pkl: "):
                read_checkpoint(str(path))


def test_random_state_goes_on_where_it_was_saved(tmp_path):
    def draw() -> tuple:
        return random.random(), np.random.rand(), torch.rand(1).item()

    state = RandomState()
    checkpointer = Checkpointer(Small(), str(tmp_path), random_state=state)
    state.capture()
    checkpointer.save("model_0000")
    first = draw()
    assert draw() != first
    Checkpointer(Small(), random_state=RandomState()).load(str(tmp_path / "model_0000.pth"))
    assert draw() == first


def test_best_metric_survives(tmp_path):
    best = BestMetric()
    best.value = 61.5
    path = saved(tmp_path, best_metric=best)
    restored = BestMetric()
    Checkpointer(Small(), best_metric=restored).load(str(path))
    assert restored.value == 61.5


def test_a_resumed_run_keeps_its_schedule(tmp_path):
    path = saved(tmp_path, config=SavedConfig(setup_cfg("")))
    check_schedule(path, setup_cfg("", ["SOLVER.MAX_EPOCH", "999", "SOLVER.IMS_PER_BATCH", "8"]))
    with pytest.raises(InputError, match=r"model_0000\.pth: .* SOLVER\.BASE_LR 9\.0; was 0\.0003"):
        check_schedule(path, setup_cfg("", ["SOLVER.BASE_LR", "9.0"]))
    assert set(SCHEDULE) <= {key for key, _ in flatten(setup_cfg(""))}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SOLVER.ADVERSARY.BASE_LR", "0.5"),
        ("SOLVER.ADVERSARY.MOMENTUM", "0.1"),
        ("DEFENSE.DISCRIMINATOR.BASE_LR", "0.5"),
        ("DEFENSE.DISCRIMINATOR.HIDDEN", "8"),
        ("SOLVER.FREEZE_ITERS", "7"),
        ("MODEL.FREEZE_LAYERS", "['backbone']"),
    ],
)
def test_a_resumed_run_keeps_what_its_other_optimizers_were_built_with(tmp_path, key, value):
    path = saved(tmp_path, config=SavedConfig(setup_cfg("")))
    with pytest.raises(InputError, match=rf"cannot resume from it with {key}"):
        check_schedule(path, setup_cfg("", [key, value]))


def test_a_cosine_is_not_resumed_to_another_end(tmp_path):
    cosine = ["SOLVER.SCHED", "CosineAnnealingLR", "SOLVER.MAX_EPOCH"]
    path = saved(tmp_path, config=SavedConfig(setup_cfg("", [*cosine, "20"])))
    check_schedule(path, setup_cfg("", [*cosine, "20"]))
    with pytest.raises(InputError, match=r"SOLVER\.MAX_EPOCH 40; was 20"):
        check_schedule(path, setup_cfg("", [*cosine, "40"]))


class TestAlteredStates:
    """What a resumed run refuses before it reads data; each message names file and entry."""

    def altered(self, folder: Path, key: str, change) -> Path:
        optimizer = torch.optim.SGD(Small().parameters(), lr=0.5)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3])
        state = RandomState()
        state.capture()
        parts = {"best_metric": BestMetric(), "lr_sched": schedule, "random_state": state}
        path = saved(folder, config=SavedConfig(setup_cfg("")), **parts)
        checkpoint = torch.load(path, weights_only=True)
        change(checkpoint[key])
        torch.save(checkpoint, path)
        return path

    def test_none_is_taken(self, tmp_path):
        before = random.getstate()
        check_schedule(self.altered(tmp_path, "config", lambda state: None), setup_cfg(""))
        assert random.getstate() == before

    @pytest.mark.parametrize(("count", "fits"), [(2, True), (3, False)])
    def test_a_run_that_was_interrupted_in_an_evaluation_has_ended_its_epoch(
        self, tmp_path, count, fits
    ):
        path = self.altered(tmp_path, "lr_sched", lambda state: state.update(last_epoch=count))
        checkpoint = torch.load(path, weights_only=True)
        torch.save({**checkpoint, "interruption": {}}, path)
        if fits:
            return check_schedule(path, setup_cfg(""))
        with pytest.raises(InputError, match="last_epoch is 3; expected 2 or less"):
            check_schedule(path, setup_cfg(""))

    @pytest.mark.parametrize(
        ("key", "name", "value", "message"),
        [
            ("config", "yaml", "[1,2", r"'config':1: not YAML"),
            ("config", "yaml", "- a", r"'config': found \['a'\]; expected KEY: VALUE lines"),
            ("config", "yaml", "a: !!python/name:os.system", r"'config':1: not YAML"),
            ("config", "yaml", "3", r"'config': found 3; expected KEY: VALUE lines"),
            ("config", "yaml", 3, r"'config' holds no YAML"),
            ("best_metric", "value", "x", r"'best_metric' .* a finite 'value' of -1 or more"),
            ("best_metric", "value", float("nan"), r"'best_metric' .*'value': nan"),
            ("best_metric", "value", float("inf"), r"'best_metric' .*'value': inf"),
            ("best_metric", "value", True, r"'best_metric' .*'value': True"),
            ("lr_sched", "last_epoch", "x", r"'lr_sched' .* last_epoch is 'x'; expected a whole"),
            ("lr_sched", "last_epoch", -2, r"'lr_sched' .* last_epoch is -2; expected"),
            ("lr_sched", "last_epoch", 50, r"last_epoch is 50; expected 1 or less, as its epoch"),
            ("lr_sched", "base_lrs", [float("nan")], r"'lr_sched' .* base_lrs is \[nan\]"),
            ("random_state", "ranks", [], r"'random_state' .* ranks are \[\]; expected a state"),
            ("random_state", "ranks", "x", r"'random_state' .* ranks are 'x'; expected a state"),
            ("random_state", "ranks", [{"python": 3}], r"'random_state' .*TypeError"),
        ],
    )
    def test_one_is_refused(self, tmp_path, key, name, value, message):
        path = self.altered(tmp_path, key, lambda state: state.update({name: value}))
        before = random.getstate()
        match = rf"model_0000\.pth: cannot resume from it: its {message}"
        if not message.startswith("'"):
            match = message
        with pytest.raises(InputError, match=match) as refused:
            check_schedule(path, setup_cfg(""))
        assert "\n" not in str(refused.value)
        assert random.getstate() == before
