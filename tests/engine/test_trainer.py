"""What a trainer does around its step."""

import argparse

import pytest
import torch
from fastreid.engine.train_loop import HookBase

from plugins.config import setup_cfg
from plugins.engine import Trainer
from plugins.engine.defaults import read_cfg, setup_run, tell_where_it_goes_on
from plugins.errors import InputError
from tests.helpers.small_runs import CONFIG, options
from tools.train_net import parse_arguments


@pytest.fixture
def in_datasets(datasets, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))


@pytest.mark.parametrize("people", [0, 6])
def test_output_folder_is_made_without_any_set_up(in_datasets, tmp_path, people):
    folder = tmp_path / "new" / "run"
    cfg = setup_cfg(str(CONFIG), options(folder, MODEL__HEADS__NUM_CLASSES=people))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    saved = setup_cfg(str(folder / "config.yaml"))
    assert saved.MODEL.HEADS.NUM_CLASSES == 6
    cameras = trainer.data_loader.dataset.num_cameras
    assert saved.MODEL.SELF_ATTACK.NUM_CAMERAS == cameras > 0


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_batches(in_datasets, tmp_path):
    def start(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        cfg = setup_cfg(str(CONFIG), options(tmp_path, SEED=seed))
        setup_run(cfg, argparse.Namespace(eval_only=False))
        trainer = Trainer(cfg)
        batches, _ = trainer._trainer.next_batches()
        return trainer.model.heads.weight.detach(), batches[0]["images"]

    first, again, other = start(3), start(3), start(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.slow
def test_a_seed_of_its_own_is_drawn_and_kept_in_the_config():
    arguments = ["--config-file", str(CONFIG), "SEED", "-1"]
    first, second = (read_cfg(parse_arguments(arguments)).SEED for _ in range(2))
    assert first >= 0 and second >= 0
    assert first != second


@pytest.mark.parametrize(
    ("step", "branches"),
    [
        ({"SOLVER__STEP": "AlternatingStep"}, "attacked"),
        ({"SOLVER__STEP": "AdversarialStep", "DEFENSE__CLEAN_WEIGHT": 0.0}, "clean"),
    ],
)
def test_a_branch_of_batch_norm_without_batches_is_refused(in_datasets, tmp_path, step, branches):
    cfg = setup_cfg(str(CONFIG), options(tmp_path, MODEL__DUAL_NORM__ENABLED=True, **step))
    with pytest.raises(InputError, match=rf"DUAL_NORM\.ENABLED: True, .* on no {branches} batches"):
        Trainer(cfg)


def test_a_numbered_device_is_the_one_in_use(tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: used.append(str(device)))
    for name in ("cpu", "cuda", "cuda:1"):
        cfg = setup_cfg("", ["MODEL.DEVICE", name, "OUTPUT_DIR", str(tmp_path), "SEED", "0"])
        setup_run(cfg, argparse.Namespace(eval_only=True))
    assert used == ["cuda:1"]


@pytest.mark.parametrize("option", ["--num-gpus", "--num-machines"])
def test_no_process_is_refused(option):
    with pytest.raises(InputError, match=rf"{option} 0: expected 1 or more"):
        read_cfg(parse_arguments(["--config-file", str(CONFIG), option, "0"]))


class TestWhereARunGoesOn:
    def told(self, caplog, output, config="configs/a.yml", resume=True) -> list[str]:
        caplog.clear()
        with caplog.at_level("WARNING", "plugins"):
            args = argparse.Namespace(resume=resume, config_file=str(config))
            tell_where_it_goes_on(str(output), args)
        return [record.getMessage() for record in caplog.records]

    def test_nothing_to_resume_is_told_with_the_folder(self, caplog, tmp_path):
        (line,) = self.told(caplog, tmp_path)
        assert line == (
            f"--resume: OUTPUT_DIR {tmp_path} holds no checkpoint, so the training starts at epoch "
            "0; --resume FILE goes on from a checkpoint that lies elsewhere"
        )
        assert self.told(caplog, tmp_path, resume=False) == []
        (tmp_path / "model_0000.pth").touch()
        assert self.told(caplog, tmp_path) == []

    def test_the_checkpoint_of_a_folder_that_was_moved_is_named(self, caplog, tmp_path):
        moved = tmp_path / "moved"
        moved.mkdir()
        for name in ("config.yaml", "model_0003.pth"):
            (moved / name).touch()
        (line,) = self.told(caplog, tmp_path / "old", moved / "config.yaml")
        assert line.endswith(f"lies elsewhere, such as {moved / 'model_0003.pth'}")
        file = str(moved / "model_0003.pth")
        (line,) = self.told(caplog, tmp_path / "old", moved / "config.yaml", resume=file)
        assert line.startswith(f"--resume {file}: what follows is written to OUTPUT_DIR")
        assert line.endswith(f"add OUTPUT_DIR {moved}")
        assert self.told(caplog, f"{moved}/.", resume=file) == []


class TestResumeFlag:
    def test_alone_it_leaves_the_options(self):
        args = parse_arguments(["--resume", "SEED", "1"])
        assert args.resume is True
        assert args.opts == ["SEED", "1"]

    def test_it_takes_a_path(self, tmp_path):
        path = tmp_path / "model_0003.pth"
        path.touch()
        args = parse_arguments(["--resume", str(path), "SEED", "1"])
        assert args.resume == str(path)
        assert args.opts == ["SEED", "1"]

    def test_a_path_that_does_not_exist_is_named(self):
        with pytest.raises(InputError, match=r"--resume nowhere\.pth: no such file"):
            read_cfg(parse_arguments(["--resume", "nowhere.pth", "--config-file", str(CONFIG)]))


@pytest.mark.parametrize(
    ("key", "name", "message"),
    [
        (
            "SOLVER.STEP",
            "SimpleStepp",
            "SOLVER.STEP: no STEP is named 'SimpleStepp'; known: Simple",
        ),
        ("MODEL.META_ARCHITECTURE", "SADSTR", "no META_ARCH is named 'SADSTR'; known: SADSTRM"),
        ("MODEL.HEADS.NAME", "Head", "MODEL.HEADS.NAME: no HEADS is named 'Head'; known: "),
        ("MODEL.TEMPORAL.NAME", "STIGG", "no TEMPORAL is named 'STIGG'; known: STIG"),
    ],
)
def test_a_wrong_name_lists_the_known_ones_nearest_first(in_datasets, tmp_path, key, name, message):
    with pytest.raises(InputError) as caught:
        Trainer(setup_cfg(str(CONFIG), [*options(tmp_path), key, name]))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"TEST__ATTACKS": "['FNAA']"}, "TEST.ATTACKS: no ATTACK is named 'FNAA'; known: FNA,"),
        ({"TEST__ATTACKS": "['FNA']", "ATTACK__EPS": -1.0}, "ATTACK.EPS"),
        ({"TEST__ATTACKS": "['FNA']", "TEST__SELECT": "best"}, "TEST.SELECT: 'best'"),
        ({"TEST__METRIC": "jaccard"}, "TEST.METRIC: 'jaccard'; expected cosine"),
        ({"TEST__EVALUATOR": "VVI"}, "TEST.EVALUATOR: no EVALUATOR is named 'VVI'"),
        ({"TEST__EVALUATOR": "RobustEvaluator"}, "expected TEST.ATTACKS to name an attack"),
        ({"DATASETS__TESTS": "['HITSZVCM','Market1501']"}, "DATASETS.TESTS Market1501: "),
        ({"TEST__EXPECTED_RESULTS": "[['HITSZVCM/I2V', 'mAP']]"}, "row 1: expected [task,"),
        (
            {"TEST__EXPECTED_RESULTS": "[['HITSZVCM/I2V+FNA', 'mAP', 0.0, 100.0]]"},
            "TEST.EXPECTED_RESULTS row 1: no task 'HITSZVCM/I2V+FNA'; known: HITSZVCM/I2V,",
        ),
    ],
)
def test_what_cannot_be_tested_is_not_trained(in_datasets, tmp_path, changes, message):
    with pytest.raises(InputError) as caught:
        Trainer(setup_cfg(str(CONFIG), options(tmp_path, **changes)))
    assert message in str(caught.value)


def test_a_config_of_fewer_cameras_is_refused_where_they_are_told_apart(in_datasets, tmp_path):
    fewer = {"MODEL__SELF_ATTACK__NUM_CAMERAS": 1}
    Trainer(setup_cfg(str(CONFIG), options(tmp_path, **fewer)))
    fewer["MODEL__SELF_ATTACK__CAM_WEIGHT"] = 0.1
    with pytest.raises(InputError, match=r"SELF_ATTACK\.NUM_CAMERAS: 1, but there are . cameras"):
        Trainer(setup_cfg(str(CONFIG), options(tmp_path, **fewer)))


@pytest.mark.slow
def test_an_evaluation_needs_no_number_of_cameras(in_datasets, tmp_path):
    weights = tmp_path / "model_final.pth"
    weights.touch()
    changes = {"MODEL__SELF_ATTACK__CAM_WEIGHT": 0.1, "MODEL__WEIGHTS": str(weights)}
    words = ["--eval-only", "--config-file", str(CONFIG), *options(tmp_path, **changes)]
    Trainer.build_model(read_cfg(parse_arguments(words)))


def test_no_data_set_at_all_is_refused():
    with pytest.raises(InputError, match=r"DATASETS\.TESTS: it names no data set"):
        read_cfg(parse_arguments(["--config-file", str(CONFIG), "DATASETS.TESTS", "()"]))


def test_a_data_set_that_is_tested_twice_is_refused():
    twice = ["DATASETS.TESTS", "('HITSZVCM','Market1501','HITSZVCM')"]
    with pytest.raises(InputError, match=r"TESTS: HITSZVCM more than once; expected each"):
        read_cfg(parse_arguments(["--config-file", str(CONFIG), *twice]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "length", [{"WARMUP_EPOCHS": 2}, {"WARMUP_EPOCHS": 0, "WARMUP_ITERS": 100}]
)
def test_a_run_is_not_resumed_in_its_warm_up_with_epochs_of_another_length(
    in_datasets, tmp_path, length
):
    def start(**changes) -> Trainer:
        solver = {f"SOLVER__{key}": value for key, value in (length | changes).items()}
        return Trainer(setup_cfg(str(CONFIG), options(tmp_path, **solver)))

    trainer = start()
    warmup = trainer.scheduler["warmup_sched"]
    warmup.last_epoch = trainer.iters_per_epoch
    trainer.checkpointer.save("model_0000", epoch=0, metric=-1.0)
    start().resume_or_load()
    with pytest.raises(InputError, match=rf"in its warm-up: {warmup.last_epoch} of "):
        start(ACCUMULATION=2).resume_or_load()
    warmup.last_epoch = warmup.warmup_iters
    trainer.checkpointer.save("model_0001", epoch=1, metric=-1.0)
    start(ACCUMULATION=2).resume_or_load()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["before_train", "before_step"])
def test_an_error_ends_a_training_without_an_evaluation(in_datasets, tmp_path, monkeypatch, place):
    def fail():
        raise InputError("a frame is broken")

    def test(*_):
        raise AssertionError("evaluated after an error")

    cfg = setup_cfg(str(CONFIG), options(tmp_path, SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=5))
    trainer = Trainer(cfg)
    monkeypatch.setattr(trainer, "test", test)
    hook = HookBase()
    setattr(hook, place, fail)
    trainer.register_hooks([hook])
    with pytest.raises(InputError, match="a frame is broken"):
        trainer.train()
