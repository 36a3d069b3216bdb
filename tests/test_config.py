"""Reading a config, and what a user is told when it is wrong."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.config import default_cfg, flatten, setup_cfg
from plugins.errors import InputError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_command_line_wins_over_file_wins_over_base(tmp_path):
    write(tmp_path / "base.yml", "SEED: 1\nSOLVER:\n  MAX_EPOCH: 2\n  BASE_LR: 0.5\n")
    child = write(tmp_path / "child.yml", "_BASE_: base.yml\nSOLVER:\n  MAX_EPOCH: 3\n")
    cfg = setup_cfg(child, ["SEED", "4"])
    assert (cfg.SEED, cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.BASE_LR) == (4, 3, 0.5)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yml")), ids=str)
def test_every_config_of_the_repository_loads_and_its_dump_loads_to_the_same(path, tmp_path):
    cfg = setup_cfg(str(path))
    assert setup_cfg(write(tmp_path / "config.yaml", cfg.dump())) == cfg


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("SOLVR:\n  SCHED: 2\n", [], "no config key 'SOLVR.SCHED'; nearest: SOLVER.SCHED"),
        ("SEED: 0\n", ["SOLVR.SCHED", "2"], "command line: no config key 'SOLVR.SCHED'"),
        ("SEED: 0\n", ["SEED"], "command line: 'SEED' has no value"),
        ("SEED: 0\n", ["SOLVER", "1"], "command line: SOLVER is a section"),
        ("SEED: abc\n", [], "SEED: Type mismatch"),
        ("SEED: [1\n", [], "not YAML"),
        ("just words\n", [], "expected KEY: VALUE lines"),
        ("_BASE_: nothing.yml\n", [], "_BASE_"),
        ("", [], "expected KEY: VALUE lines"),
    ],
)  # fmt: skip
def test_a_wrong_config_is_one_line_that_names_the_culprit(text, options, message, tmp_path):
    path = write(tmp_path / "bad.yml", text)
    with pytest.raises(InputError) as caught:
        setup_cfg(path, options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert options or path in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.DEVICE", "gpu", "MODEL.DEVICE: 'gpu'; expected cpu, cuda or cuda:N"),
        ("MODEL.DEVICE", "cuda:", "MODEL.DEVICE: 'cuda:'"),
        ("DATALOADER.NUM_WORKERS", -1, "DATALOADER.NUM_WORKERS: -1; expected 0 or more"),
        ("SOLVER.ACCUMULATION", 0, "SOLVER.ACCUMULATION: 0; expected 1 or more"),
        ("SOLVER.CHECKPOINT_PERIOD", 0, "SOLVER.CHECKPOINT_PERIOD: 0; expected 1 or more"),
        ("SOLVER.LOG_PERIOD", 0, "SOLVER.LOG_PERIOD: 0; expected 1 or more"),
        ("TEST.EVAL_PERIOD", 0, "TEST.EVAL_PERIOD: 0; expected 1 or more"),
        ("SOLVER.SCHED", "Foo", "SOLVER.SCHED: 'Foo'; expected MultiStepLR or CosineAnnealingLR"),
        ("SOLVER.WARMUP_METHOD", "foo", "SOLVER.WARMUP_METHOD: 'foo'; expected constant or "),
        ("TEST.RANK_PICTURE", -1, "TEST.RANK_PICTURE: -1; expected 0 or more"),
        ("SOLVER.BASE_LR", -1.0, "SOLVER.BASE_LR: -1.0; expected 0 or more"),
        ("SOLVER.MAX_EPOCH", 0, "SOLVER.MAX_EPOCH: 0; expected 1 or more"),
        ("SOLVER.WARMUP_EPOCHS", -2, "SOLVER.WARMUP_EPOCHS: -2; expected 0 or more"),
        ("MODEL.SELF_ATTACK.EPS", -0.03, "MODEL.SELF_ATTACK.EPS: -0.03; expected 0 or more"),
        ("MODEL.SELF_ATTACK.TEMPERATURE", 0.0, "MODEL.SELF_ATTACK.TEMPERATURE: 0.0; expected more"),
        ("MODEL.BACKBONE.LAST_STRIDE", 0, "MODEL.BACKBONE.LAST_STRIDE: 0; expected 1 or more"),
        ("MODEL.TEMPORAL.STIG.STRIPES", 0, "MODEL.TEMPORAL.STIG.STRIPES: 0; expected 1 or more"),
        ("MODEL.TEMPORAL.STIG.DIM", 0, "MODEL.TEMPORAL.STIG.DIM: 0; expected 1 or more"),
        ("MODEL.TEMPORAL.LSTM.DIM", 0, "MODEL.TEMPORAL.LSTM.DIM: 0; expected 1 or more"),
        ("MODEL.TEMPORAL.TRANSFORMER.DIM", 0, "MODEL.TEMPORAL.TRANSFORMER.DIM: 0; expected 1"),
        ("MODEL.BACKBONE.NORM", "foo", "MODEL.BACKBONE.NORM: 'foo'; expected BN or syncBN or "),
        ("MODEL.HEADS.NORM", "foo", "MODEL.HEADS.NORM: 'foo'; expected BN or syncBN or "),
        ("MODEL.HEADS.CLS_LAYER", "foo", "MODEL.HEADS.CLS_LAYER: 'foo'; expected Linear or Arc"),
        ("MODEL.HEADS.NECK_FEAT", "foo", "MODEL.HEADS.NECK_FEAT: 'foo'; expected before or after"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "foo", ".*CLIP_TYPE: 'foo'; expected norm or value"),
        ("MODEL.LOSSES.NAME", "()", "MODEL.LOSSES.NAME: it names no loss; expected one or more"),
        ("SEED", 2**40, "SEED: 1099511627776; expected 2147483647 or less"),
    ],
)
def test_a_value_that_no_run_can_have_is_refused(key, value, message):
    with pytest.raises(InputError, match=f"^{message}"):
        setup_cfg(opts=[key, value])


def test_a_device_may_have_a_number():
    assert setup_cfg(opts=["MODEL.DEVICE", "cuda:1"]).MODEL.DEVICE == "cuda:1"


def test_a_missing_config_file_is_named():
    with pytest.raises(InputError, match=r"--config-file nowhere\.yml: no such file"):
        setup_cfg("nowhere.yml")


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(st.integers(), lambda t: st.dictionaries(st.sampled_from("ABC"), t, min_size=1))
)
def test_flatten_keeps_every_leaf_once(tree):
    if not isinstance(tree, dict):
        return

    def leaf(key: str):
        node = tree
        for part in key.split("."):
            node = node[part]
        return node

    leaves = flatten(tree)
    assert len({key for key, _ in leaves}) == len(leaves)
    assert all(leaf(key) == value for key, value in leaves)


def test_defaults_hold_every_key_of_fastreid_and_ours():
    cfg = default_cfg()
    assert cfg.SOLVER.OPT == "Adam"
    assert cfg.SOLVER.STEP == "SimpleStep"
