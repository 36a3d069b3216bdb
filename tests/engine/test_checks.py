"""What is wrong with a config is told before any data is read, and nothing else is refused."""

import pytest
import torch
from fastreid.modeling.meta_arch import build_model
from fastreid.utils.events import EventStorage

from plugins.config import setup_cfg
from plugins.engine import read_cfg
from plugins.engine.checks import check_evaluation, check_run, frame_size
from plugins.engine.steps import Step
from plugins.engine.trainer import check_results
from plugins.errors import InputError
from plugins.modeling.dry_build import build_dry, check_model
from plugins.registry import STEP
from tests.helpers.small_runs import CONFIG, ROOT, options
from tools.train_net import parse_arguments

STOCK = ROOT / "configs/Defense/synthetic/vanilla.yml"


@pytest.fixture(autouse=True)
def _nothing_to_read(monkeypatch, tmp_path):
    (tmp_path / "no data set is here").mkdir()
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "no data set is here"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"DATASETS__NAMES": "HITSZ"}, "DATASETS.NAMES: no DATASET is named 'HITSZ'; known: HITS"),
        ({"DATASETS__TESTS": "HITSZ"}, "DATASETS.TESTS: no DATASET is named 'HITSZ'; known: HITS"),
        ({"DATASETS__NAMES": "HeldOutPeople", "DATASETS__HELD_OUT__NAME": "Market"},
         "DATASETS.HELD_OUT.NAME: no DATASET is named 'Market'; known: Market1501"),
        ({"DATALOADER__SAMPLER_TRAIN": "Identity"}, "SAMPLER_TRAIN: no SAMPLER is named 'Id"),
        ({"SOLVER__STEP": "Simple"}, "SOLVER.STEP: no STEP is named 'Simple'; known: SimpleStep"),
        ({"SOLVER__OPT": "Adm"}, "SOLVER.OPT: torch.optim has no 'Adm' to use; nearest: Adam, "),
        ({"SOLVER__AMP__ENABLED": True, "SOLVER__AMP__DTYPE": "half"}, "SOLVER.AMP.DTYPE: 'half'"),
        ({"MODEL__META_ARCHITECTURE": "SADSTR"}, "no META_ARCH is named 'SADSTR'; known: SADSTRM"),
        ({"MODEL__BACKBONE__NAME": "resnet"}, "MODEL.BACKBONE.NAME: no BACKBONE is named 'resnet'"),
        ({"MODEL__BACKBONE__TRUNK": "resnet"}, "MODEL.BACKBONE.TRUNK: no BACKBONE is named 'resn"),
        ({"MODEL__BACKBONE__DEPTH": "51x"}, "MODEL.BACKBONE.DEPTH: no depth '51x'"),
        ({"MODEL__HEADS__NAME": "Head"}, "MODEL.HEADS.NAME: no HEADS is named 'Head'; known: "),
        ({"MODEL__TEMPORAL__NAME": "STIGG"},
         "no TEMPORAL is named 'STIGG'; known: STIG, TemporalGeM, TemporalLSTM and 5 others"),
        ({"MODEL__LOSSES__NAME": "TripleLoss"}, "no LOSS is named 'TripleLoss'; known: Trip"),
        ({"MODEL__LOSSES__FRAMES__NAME": "Tri", "MODEL__HEADS__NECK_LEVEL": "frame",
          "MODEL__TEMPORAL__NAME": "TemporalMean"}, "MODEL.LOSSES.FRAMES.NAME: no LOSS is "),
        ({"MODEL__SELF_ATTACK__KIND": "noise"}, "MODEL.SELF_ATTACK.KIND: no kind 'noise'; known: "),
        ({"MODEL__DUAL_NORM__ENABLED": True, "MODEL__DUAL_NORM__DEPLOYED": "x"}, "DEPLOYED: 'x'"),
        ({"INPUT__CLIP__SAMPLING": "segment"}, "INPUT.CLIP.SAMPLING: 'segment'; expected segments"),
        ({"INPUT__CLIP__LENGTH": 0}, "INPUT.CLIP.LENGTH: 0; expected 1 or more"),
        ({"INPUT__SIZE_TRAIN": "256"}, "INPUT.SIZE_TRAIN: [256]; expected a list of 2"),
        ({"INPUT__SIZE_TEST": "[32.5,16]"}, "[32.5, 16]; expected a list of 2 whole numbers"),
        ({"INPUT__SIZE_TEST": "[2,16]"}, "INPUT.SIZE_TEST: frames of 2 x 16 are too small for "),
        ({"INPUT__CJ__ENABLED": True, "INPUT__CJ__HUE": 3.0}, "INPUT.CJ.HUE: 3.0; expected 0 to "),
        ({"DATALOADER__FRAME_CACHE": "nothere"},
         "DATALOADER.FRAME_CACHE nothere: no frames of 32x16 there, found nothing; pack it again"),
        ({"TEST__CLIPS": -1}, "TEST.CLIPS: -1; expected 0 or more"),
        ({"TEST__CORRUPTION__KIND": "nois"}, "'nois'; expected none, noise, blur, jpeg or gamma;"),
        ({"TEST__METRIC": "cosin"}, "TEST.METRIC: 'cosin'; expected cosine or euclidean"),
        ({"TEST__EVALUATOR": "VVI"}, "TEST.EVALUATOR: no EVALUATOR is named 'VVI'; known: VVIEval"),
        ({"TEST__AQE__ENABLED": True}, "TEST.AQE.ENABLED: True; expected False"),
        ({"TEST__ATTACKS": "FNAA"}, "TEST.ATTACKS: no ATTACK is named 'FNAA'; known: FNA, "),
        ({"TEST__ATTACKS": "FNA", "ATTACK__FRAMES": "dens"}, "ATTACK.FRAMES: 'dens'; expected "),
        ({"TEST__ATTACKS": "FNA", "ATTACK__SIDE": "both"}, "ATTACK.SIDE: 'both'; expected"),
        ({"TEST__ATTACKS": "FNA", "ATTACK__NORM": "l2", "ATTACK__EPS": 99}, "FNA: 15 steps of 1"),
        ({"SOLVER__IMS_PER_BATCH": 1}, "SOLVER.IMS_PER_BATCH: 1 for each process is too few to "),
        ({"SOLVER__IMS_PER_BATCH": 15}, "15 items a process; CrossModalIdentitySampler needs a mu"),
        ({"SOLVER__OPT": "SGD", "SOLVER__MOMENTUM": 0, "SOLVER__NESTEROV": True},
         "SOLVER.NESTEROV: True with SOLVER.MOMENTUM 0; expected more than 0"),
        ({"SOLVER__SCHED": "CosineAnnealingLR", "SOLVER__WARMUP_EPOCHS": 3},
         "CosineAnnealingLR begins after 3 epochs of warm-up or delay, when training has ended; "),
        ({"SOLVER__STEPS": "[1]", "SOLVER__WARMUP_EPOCHS": 2}, "SOLVER.STEPS [1]: 1 lies in the w"),
        ({"MODEL__FREEZE_LAYERS": "foo"}, "MODEL.FREEZE_LAYERS: no 'foo' in SADSTRM; it has back"),
        ({"MODEL__FREEZE_LAYERS": "*a"}, "MODEL.FREEZE_LAYERS: '*a' is no regular expression: "),
        ({"TEST__EXPECTED_RESULTS": "foo"}, "RESULTS row 1: expected [task, metric, expected, tol"),
        ({"TEST__EXPECTED_RESULTS": "[['HITSZVCM/I2V','mAPP',1,1]]"}, "no metric 'mAPP'; known: "),
        ({"TEST__EXPECTED_RESULTS": "[['HITSZ/I2V','mAP',1,1]]"}, "row 1: no task 'HITSZ/I2V'; ex"),
        ({"TEST__EXPECTED_RESULTS": "[['HITSZVCM/I2V','mAP',1,-1]]"}, "tolerance -1; expected 0 o"),
        ({"TEST__PRECISE_BN__ENABLED": True, "TEST__PRECISE_BN__DATASET": "HITSZ"},
         "TEST.PRECISE_BN.DATASET: no DATASET is named 'HITSZ'"),
        ({"MODEL__WEIGHTS": "none.pth"}, "MODEL.WEIGHTS none.pth: no such file"),
        ({"MODEL__WEIGHTS": "."}, "MODEL.WEIGHTS .: a folder; expected a file"),
        ({"MODEL__BACKBONE__PRETRAIN": True, "MODEL__BACKBONE__PRETRAIN_PATH": "none.pth"},
         "MODEL.BACKBONE.PRETRAIN_PATH none.pth: no such file"),
        ({"TEST__ATTACKS": "FNA", "ATTACK__FRAMES": "sparse", "ATTACK__SPARSE_FRAMES": 10},
         "ATTACK.SPARSE_FRAMES: 10, but a clip has INPUT.CLIP.LENGTH 2 frames"),
        ({"SOLVER__IMS_PER_BATCH": 0}, "SOLVER.IMS_PER_BATCH: 0; expected 1 or more"),
        ({"OUTPUT_DIR": ""}, "OUTPUT_DIR: it is empty; expected a folder"),
        ({"OUTPUT_DIR": "file"}, "OUTPUT_DIR file: a file; expected a folder"),
        ({"OUTPUT_DIR": "file/deep/er"}, "OUTPUT_DIR file/deep/er: file is a file; expected a fol"),
        ({"OUTPUT_DIR": "a" * 300}, "cannot write there: File name too long"),
        ({"OUTPUT_DIR": "/proc/run"}, "OUTPUT_DIR /proc/run: cannot write there: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_one_line_before_data_is_read(
    changes, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    words = ["--config-file", str(CONFIG), *options(tmp_path / "run", **changes)]
    with pytest.raises(InputError) as caught:
        read_cfg(parse_arguments(words))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "opts", "message"),
    [
        (
            STOCK,
            ["DATASETS.NAMES", "HITSZVCM"],
            "MODEL.META_ARCHITECTURE: fastreid's Baseline reads single images of one modality, but "
            "DATASETS.NAMES HITSZVCM holds clips; expected an image set, such as Market1501, or a "
            "config such as VVI/baseline.yml, VVI/synthetic/baseline.yml, VVI/mobilenetv2.yml",
        ),
        (
            STOCK,
            ["DATASETS.TESTS", "HeldOutPeople", "DATASETS.HELD_OUT.NAME", "SYSUMM01"],
            "DATASETS.TESTS HeldOutPeople holds images of two modalities; expected an image set",
        ),
        (
            CONFIG,
            ["DATASETS.NAMES", "Market1501"],
            "CrossModalIdentitySampler needs two modalities, but DATASETS.NAMES Market1501 holds "
            "single images of one modality; expected IdentitySampler, with which MODEL.META_ARCH",
        ),
    ],
)
@pytest.mark.parametrize("check", [lambda cfg: check_run(cfg, 1), check_evaluation])
def test_a_model_and_a_set_of_another_kind_are_told_apart(config, opts, message, check):
    cfg = setup_cfg(str(config), [*opts, "TEST.EXPECTED_RESULTS", "[]"])
    if "NAMES" in message and check is check_evaluation:
        check(cfg)  # which does not train on that set
        return
    with pytest.raises(InputError) as caught:
        check(cfg)
    assert message in str(caught.value)


@pytest.mark.parametrize("inner", ["FNA", "AntiCollapse"])
@pytest.mark.parametrize(
    "step", ["AdversarialStep", "DDDefenseStep", "UniversalStep", "SimpleStep"]
)
@pytest.mark.parametrize(
    ("opts", "message", "steps"),
    [
        (["DEFENSE.INNER", "FNAA"], "DEFENSE.INNER: no ATTACK is named 'FNAA'; known: FNA", "AD"),
        (["ATTACK.NORM=l2", "DEFENSE.EPS=400"], "reach 20, less than DEFENSE.EPS 400", "AD"),
        (["ATTACK.NORM=l2"], "ATTACK.NORM: 'l2'; UniversalStep supports linf", "U"),
        (["DEFENSE.META.ENABLED=True"], "DEFENSE.META.ENABLED: True, but SOLVER.STEP", "AUS"),
        (["DEFENSE.FNES.ENABLED=True", "DEFENSE.FNES.MIX=[1,0]"], "DEFENSE.FNES.MIX: ", "D"),
    ],
)  # fmt: skip
def test_a_step_is_asked_before_data_is_read(step, inner, opts, message, steps):
    cfg = setup_cfg(str(STOCK), ["SOLVER.STEP", step, "DEFENSE.INNER", inner, *opts])
    if step[0] in steps:
        with pytest.raises(InputError) as caught:
            check_run(cfg, 1)
        assert message in str(caught.value)
    else:
        try:
            check_run(cfg, 1)
        except InputError as error:
            assert message not in str(error)


def test_an_adversary_that_the_model_lacks_is_missed():
    cfg = setup_cfg(str(STOCK), ["SOLVER.STEP", "AlternatingStep"])
    with pytest.raises(InputError, match="AlternatingStep: Baseline has no adversary"):
        check_run(cfg, 1)


def test_a_users_part_is_asked_too(monkeypatch):
    class Picky(Step):
        @classmethod
        def check_config(cls, cfg):
            raise InputError(f"SEED: {cfg.SEED}; expected a lucky one")

    monkeypatch.setitem(STEP._obj_map, "Picky", Picky)
    with pytest.raises(InputError, match="SEED: 13; expected a lucky one"):
        check_run(setup_cfg(str(STOCK), ["SOLVER.STEP", "Picky", "SEED", "13"]), 1)


def test_an_evaluation_is_not_asked_what_only_training_needs():
    opts = ["SOLVER.STEP", "Gone", "DATASETS.NAMES", "Gone", "SOLVER.IMS_PER_BATCH", "1"]
    opts += ["INPUT.SIZE_TRAIN", "[1,1]", "DATALOADER.SAMPLER_TRAIN", "Gone"]
    check_evaluation(setup_cfg(str(STOCK), opts))


@pytest.mark.slow
def test_a_loss_that_fastreids_own_architecture_would_pass_over_is_refused():
    losses = ["MODEL.LOSSES.NAME", "CrossEntropyLoss,CrossModalTriplet"]
    with pytest.raises(InputError, match="Baseline of fastreid does not know CrossModalTriplet"):
        check_run(setup_cfg(str(STOCK), losses), 1)
    check_run(setup_cfg(str(CONFIG), losses), 1)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 2), (3, 3)])
@pytest.mark.parametrize(
    "backbone",
    [
        (STOCK, "build_resnet_backbone", "18x"),
        (STOCK, "build_resnext_backbone", "50x"),
        (STOCK, "build_shufflenetv2_backbone", "1.0x"),
        (CONFIG, "build_two_stream_backbone", "18x"),
    ],
)
def test_a_size_is_refused_if_and_only_if_the_real_network_cannot_take_it(backbone, size):
    config, name, depth = backbone
    opts = ["MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.DEPTH", depth, "MODEL.DEVICE", "cpu"]
    opts += ["MODEL.TEMPORAL.NAME", "TemporalMean"]  # which takes maps of any size
    cfg = setup_cfg(str(config), [*opts, "MODEL.BACKBONE.PRETRAIN", "False"])
    backbone = build_model(with_counts(cfg)).backbone.eval()
    arguments = (torch.zeros(2),) if name == "build_two_stream_backbone" else ()
    try:
        with torch.no_grad():
            backbone(torch.zeros(2, 3, *size), *arguments)
        taken = True
    except RuntimeError:
        taken = False
    if taken:
        check_model(cfg, {"INPUT.SIZE_TEST": size}, 0)
    else:
        with pytest.raises(InputError, match=rf"INPUT\.SIZE_TEST: frames of {size[0]} x {size[1]}"):
            check_model(cfg, {"INPUT.SIZE_TEST": size}, 0)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("side", [4, 33])
@pytest.mark.parametrize(
    "opts",
    [
        [],
        ["MODEL.HEADS.WITH_BNNECK", "False"],
        ["MODEL.HEADS.NORM", "GN"],
        ["MODEL.BACKBONE.NORM", "FrozenBN", "MODEL.HEADS.WITH_BNNECK", "False"],
        ["MODEL.HEADS.EMBEDDING_DIM", "64"],
    ],
)
def test_a_batch_is_refused_if_and_only_if_the_real_network_cannot_train_on_it(batch, side, opts):
    cfg = with_counts(setup_cfg(str(STOCK), [*opts, "MODEL.DEVICE", "cpu"]))
    model = build_model(cfg).train()
    targets = torch.arange(batch)
    try:
        with EventStorage():
            model({"images": torch.rand(batch, 3, side, side), "targets": targets})
        taken = True
    except ValueError as error:
        assert "more than 1 value per channel" in str(error)
        taken = False
    sizes = {"INPUT.SIZE_TRAIN": (side, side)}
    if taken:
        check_model(cfg, sizes, batch)
    else:
        with pytest.raises(InputError, match=rf"SOLVER\.IMS_PER_BATCH: {batch} for each process"):
            check_model(cfg, sizes, batch)


def with_counts(cfg):
    cfg.MODEL.HEADS.NUM_CLASSES, cfg.MODEL.SELF_ATTACK.NUM_CAMERAS = 4, 2
    cfg.MODEL.BACKBONE.PRETRAIN = False
    return cfg


@pytest.mark.parametrize("level", ["clip", "frame"])
@pytest.mark.parametrize("batch", [1, 2])
def test_one_clip_is_enough_where_the_neck_sees_frames(level, batch):
    opts = ["MODEL.HEADS.NECK_LEVEL", level, "MODEL.TEMPORAL.NAME", "TemporalMean"]
    opts += ["MODEL.META_ARCHITECTURE", "VVIBaseline", "SOLVER.STEP", "SimpleStep"]
    cfg = with_counts(setup_cfg(str(CONFIG), [*opts, "MODEL.DEVICE", "cpu"]))
    model, targets = build_model(cfg).train(), torch.arange(batch)
    clips = {"images": 255 * torch.rand(batch, 3, 3, 32, 16), "targets": targets}
    try:
        model({**clips, "modalities": torch.zeros_like(targets)})
        taken = True
    except ValueError as error:
        assert "more than 1 value per channel" in str(error)
        taken = False
    cfg.INPUT.CLIP.LENGTH, sizes = 3, {"INPUT.SIZE_TRAIN": (32, 16)}
    assert taken == (batch > 1 or level == "frame")
    if taken:
        check_model(cfg, sizes, batch)
    else:
        with pytest.raises(InputError, match=r"SOLVER\.IMS_PER_BATCH: 1 for each process"):
            check_model(cfg, sizes, batch)


def test_the_frame_that_reaches_the_network_is_measured():
    crop = ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.SIZE", "[24,12]"]
    cfg = setup_cfg(str(STOCK), [*crop, "INPUT.PADDING.ENABLED", "False"])
    assert (frame_size(cfg, True), frame_size(cfg, False)) == ((24, 12), (24, 12))
    assert frame_size(setup_cfg(str(STOCK)), True) == tuple(setup_cfg(str(STOCK)).INPUT.SIZE_TRAIN)
    cfg = setup_cfg(str(STOCK), [*crop, "INPUT.CROP.SIZE", "[2,2]"])
    with pytest.raises(InputError, match=r"INPUT\.SIZE_TRAIN: \[64, 32\]: Required crop size"):
        check_run(cfg, 1)


@pytest.mark.slow
def test_runs_that_differ_in_seed_and_first_weights_share_the_trial_of_their_model():
    tried = {}
    for seed in ("1", "2"):
        start = ["SEED", seed, "MODEL.BACKBONE.PRETRAIN_PATH", f"weights{seed}.pth"]
        check_run(setup_cfg(str(CONFIG), start), 1, tried)
    assert len(tried) == 1
    check_run(setup_cfg(str(CONFIG), ["MODEL.TEMPORAL.NAME", "TemporalMean"]), 1, tried)
    assert len(tried) == 2
    for _ in range(2):
        with pytest.raises(InputError, match="no HEADS is named 'Head'"):
            check_run(setup_cfg(str(CONFIG), ["MODEL.HEADS.NAME", "Head"]), 1, tried)


@pytest.mark.slow
def test_checking_draws_nothing_and_makes_nothing_real():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    check_run(setup_cfg(str(CONFIG)), 1)
    assert torch.equal(torch.get_rng_state(), before)
    model = build_dry(setup_cfg(str(CONFIG)))
    assert {parameter.device.type for parameter in model.backbone.parameters()} == {"meta"}


@pytest.mark.slow
def test_a_folder_of_all_data_sets_that_is_not_there_is_told_before_the_log(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "nowhere"))
    words = ["--config-file", str(CONFIG), *options(tmp_path / "run")]
    with pytest.raises(InputError, match=r"FASTREID_DATASETS .*nowhere: no such folder; expected"):
        read_cfg(parse_arguments(words))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_checkpoints_of_a_folder_are_offered(tmp_path):
    (tmp_path / "model_0001.pth").touch()
    words = ["--config-file", str(CONFIG), *options(tmp_path / "run", MODEL__WEIGHTS=tmp_path)]
    with pytest.raises(InputError, match=r"a folder; expected a file, such as .*/model_0001\.pth$"):
        read_cfg(parse_arguments(words))


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({}, r"TEST.EVALUATOR Own: it returned no results; expected {row"),
        ({"I2V": float("nan")}, r"TEST.EVALUATOR Own: I2V: nan; expected a finite number"),
        ({"I2V": {"mAP": float("inf")}}, r"TEST.EVALUATOR Own: I2V mAP: inf; expected a finite"),
        ({"I2V": {"mAP": "ten"}}, r"TEST.EVALUATOR Own: I2V mAP: 'ten'; expected a finite"),
    ],
)
def test_what_an_evaluator_returns_is_checked(results, message):
    check_results("Own", {"I2V": {"mAP": 1.0, "queries": 3}, "metric": 1.0})
    with pytest.raises(InputError, match=message):
        check_results("Own", results)
