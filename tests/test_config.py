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
        ("SEED: abc\n", [], "SEED: 'abc'; expected a whole number"),
        ("SEED: [1\n", [], "not YAML"),
        ("just words\n", [], "expected KEY: VALUE lines"),
        ("_BASE_: nothing.yml\n", [], "_BASE_"),
        ("", [], "expected KEY: VALUE lines"),
        ("_BASE_: bad.yml\n", [], "its _BASE_ leads back to "),
        ("_BASE_: [a.yml, b.yml]\n", [], "_BASE_: ['a.yml', 'b.yml']; expected the path of one "),
        ("_BASE_: 3\n", [], "_BASE_: 3; expected the path of one file"),
        ("_BASE_:\n", [], "_BASE_: None; expected the path of one file"),
        ("_BASE_: .\n", [], "is a folder; expected a file"),
        ("SEED: " + 1500 * "[" + 1500 * "]", [], "bad.yml:1: nested more than 50 deep"),
        ("TEST: {}\nSEED: 1\nTEST: {}\n", [], "bad.yml:3: the key 'TEST' is given twice"),
        ("SEED: {}\n", [], "SEED: {}; expected a whole number"),
        ("SEED: null\n", [], "SEED: None; expected a whole number"),
        ("TEST: {ATTACKS: [2001-01-01]}\n", [], "TEST.ATTACKS: [datetime.date(2001, 1, 1)]; expec"),
        ("SEED: 0\n", ["SEED", "--" * 9999 + "1"], "command line: SEED: '------"),
        ("SEED: 0\n", ["SEED", "9" * 9999], "command line: SEED: '99999"),
        ("SEED: 0\n", ["S" * 9999, "1"], "command line: no config key 'SSSS"),
        ("SEED: 0\n", ["=1", "1"], "command line: no config key '=1'"),
        ("SEED: 0\n", ["SEED=1", "SEED"], "command line: 'SEED' has no value; expected KEY VALUE "),
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
        ("MODEL.TEMPORAL.STIG.COLUMNS", 0, "MODEL.TEMPORAL.STIG.COLUMNS: 0; expected 1 or more"),
        ("MODEL.TEMPORAL.STIG.SOURCE", "layer1", ".*SOURCE: 'layer1'; expected layer2 or layer3"),
        ("MODEL.TEMPORAL.STIG.RELATION.DIM", -1, ".*RELATION.DIM: -1; expected 0 or more"),
        ("MODEL.TEMPORAL.STIG.RELATION.JOIN", "or", ".*JOIN: 'or'; expected concatenate or add"),
        ("MODEL.TEMPORAL.STIG.RELATION.READS", "x", ".*READS: 'x'; expected cells or changes"),
        ("MODEL.TEMPORAL.STIG.RELATION.WEIGHT", -1.0, ".*WEIGHT: -1.0; expected 0 or more"),
        ("MODEL.TEMPORAL.STIG.DROPOUT", 1.0, ".*STIG.DROPOUT: 1.0; expected 0 or more, below 1"),
        ("MODEL.TEMPORAL.NORM.STATISTICS", "all", ".*STATISTICS: 'all'; expected modality or joi"),
        ("MODEL.TEMPORAL.NORM.MOMENTUM", 0.1, ".*MOMENTUM: 0.1; expected more than 0 and at most"),
        ("MODEL.TEMPORAL.NORM.MOMENTUM", 0.0, ".*MOMENTUM: 0.0; expected more than 0 and at most"),
        ("TEST.FEATURE", "gate", "TEST.FEATURE: 'gate'; expected fused or appearance or relation"),
        ("TEST.FEATURE", "relation", "TEST.FEATURE: relation needs a relation beside the appear"),
        ("MODEL.TEMPORAL.LSTM.DIM", 0, "MODEL.TEMPORAL.LSTM.DIM: 0; expected 1 or more"),
        ("MODEL.TEMPORAL.TRANSFORMER.DIM", 0, "MODEL.TEMPORAL.TRANSFORMER.DIM: 0; expected 1"),
        ("MODEL.BACKBONE.NORM", "foo", "MODEL.BACKBONE.NORM: 'foo'; expected BN or syncBN or "),
        ("MODEL.HEADS.NORM", "foo", "MODEL.HEADS.NORM: 'foo'; expected BN or syncBN or "),
        ("MODEL.HEADS.CLS_LAYER", "foo", "MODEL.HEADS.CLS_LAYER: 'foo'; expected Linear or Arc"),
        ("MODEL.HEADS.NECK_FEAT", "foo", "MODEL.HEADS.NECK_FEAT: 'foo'; expected before or after"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "foo", ".*CLIP_TYPE: 'foo'; expected norm or value"),
        ("MODEL.LOSSES.NAME", "()", "MODEL.LOSSES.NAME: it names no loss; expected one or more"),
        ("TEST.ATTACKS", "[1, 2]", r"TEST.ATTACKS: \[1, 2\]; expected names"),
        ("MODEL.FREEZE_LAYERS", 3, r"MODEL.FREEZE_LAYERS: \[3\]; expected names"),
        ("SEED", 2**40, "SEED: 1099511627776; expected 2147483647 or less"),
    ],
)
def test_a_value_that_no_run_can_have_is_refused(key, value, message):
    with pytest.raises(InputError, match=f"^{message}"):
        setup_cfg(opts=[key, value])


def test_bases_that_lead_back_over_another_file_are_told(tmp_path):
    (tmp_path / "deeper").mkdir()
    first = write(tmp_path / "first.yml", "_BASE_: deeper/second.yml\n")
    write(tmp_path / "deeper/second.yml", "_BASE_: ../deeper/../first.yml\n")
    with pytest.raises(InputError, match=r"deeper/second\.yml: its _BASE_ leads back to .*first"):
        setup_cfg(first)


def test_a_chain_of_bases_is_merged_section_by_section(tmp_path):
    write(tmp_path / "a.yml", "SOLVER: {MAX_EPOCH: 1, GAMMA: 0.5}\nSEED: 1\n")
    write(tmp_path / "b.yml", "_BASE_: a.yml\nSOLVER: {MAX_EPOCH: 2, STEPS: [1]}\n")
    cfg = setup_cfg(write(tmp_path / "c.yml", "_BASE_: ./b.yml\nSOLVER: {MAX_EPOCH: 3}\n"))
    solver = cfg.SOLVER
    assert (solver.MAX_EPOCH, solver.GAMMA, solver.STEPS, cfg.SEED) == (3, 0.5, [1], 1)


def test_a_base_with_an_alias_is_changed_in_one_place_alone(tmp_path):
    """As a plain dictionary the two sections are one object."""
    write(tmp_path / "a.yml", "INPUT:\n  CJ: &on {ENABLED: true}\n  REA: *on\n")
    cfg = setup_cfg(write(tmp_path / "b.yml", "_BASE_: a.yml\nINPUT: {CJ: {ENABLED: false}}\n"))
    assert (cfg.INPUT.CJ.ENABLED, cfg.INPUT.REA.ENABLED) == (False, True)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_config_or_its_base_that_is_not_utf_8_is_told_with_line_and_byte(encoding, tmp_path):
    (tmp_path / "base.yml").write_bytes("SEED: 1\nOUTPUT_DIR: café\n".encode(encoding))
    child = write(tmp_path / "child.yml", "_BASE_: base.yml\n")
    line = {"latin-1": "2: byte 16 of the line, 0xe9", "utf-16": "1: byte 1 of the line, 0xff"}
    for path in (child, str(tmp_path / "base.yml")):
        with pytest.raises(InputError, match=rf"base\.yml:{line[encoding]}, is not UTF-8"):
            setup_cfg(path)


def test_a_tag_in_yaml_runs_nothing(tmp_path):
    mark = tmp_path / "mark"
    for tag in ("python/object/apply:os.system", "python/object/new:os.system"):
        path = write(tmp_path / "bad.yml", f"SEED: !!{tag} ['touch {mark}']\n")
        with pytest.raises(InputError, match=r"bad\.yml:1: not YAML: could not determine a cons"):
            setup_cfg(path)
    assert not mark.exists()


@pytest.mark.parametrize("how", ["YAML", "KEY VALUE", "KEY=VALUE"])
@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("ATTACK.EPS", "8", 8.0),
        ("SOLVER.BASE_LR", "1", 1.0),
        ("SOLVER.BASE_LR", "1e-3", 0.001),
        ("DATASETS.NAMES", "Market1501", ("Market1501",)),
        ("DATASETS.TESTS", "[Market1501, DukeMTMC]", ("Market1501", "DukeMTMC")),
        ("TEST.ATTACKS", "FNA", ["FNA"]),
        ("MODEL.FREEZE_LAYERS", "backbone", ["backbone"]),
        ("SOLVER.STEPS", "30", [30]),
        ("MODEL.PIXEL_MEAN", "[1, 2.5, 3]", [1, 2.5, 3]),
        ("TEST.FLIP.ENABLED", "true", True),
        ("OUTPUT_DIR", "logs/a=b", "logs/a=b"),
        ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", "1", 1.0),
    ],
)  # fmt: skip
def test_a_value_is_read_as_its_key_wants_it(how, key, text, value, tmp_path):
    if how == "YAML":
        sections, name = key.rsplit(".", 1) if "." in key else ("", key)
        lines = "".join(
            f"{'  ' * depth}{section}:\n"
            for depth, section in enumerate(sections.split(".") if sections else [])
        )
        path = write(tmp_path / "c.yml", f"{lines}{'  ' * lines.count(':')}{name}: {text}\n")
        cfg = setup_cfg(path)
    else:
        cfg = setup_cfg(opts=[key, text] if how == "KEY VALUE" else [f"{key}={text}"])
    found = dict(flatten(cfg))[key]
    assert (type(found), found) == (type(value), value)
    assert setup_cfg(write(tmp_path / "dump.yml", cfg.dump())) == cfg


@pytest.mark.parametrize("key", ["ATTACK.EPS", "SEED", "SOLVER.STEPS", "INPUT.CROP.SCALE"])
@pytest.mark.parametrize("value", [True, "True", "abc", "nan", {"A": 1}, "[True]", float("nan")])
def test_what_is_no_number_is_refused_where_one_is_wanted(key, value):
    with pytest.raises(InputError, match=rf"^command line: {key}: .*; expected .*number"):
        setup_cfg(opts=[key, value])


def test_text_that_looks_like_a_number_stays_text(tmp_path):
    assert setup_cfg(opts=["OUTPUT_DIR", "2024"]).OUTPUT_DIR == "2024"
    path = write(tmp_path / "c.yml", "MODEL: {BACKBONE: {DEPTH: '18'}}\n")
    assert setup_cfg(path).MODEL.BACKBONE.DEPTH == "18"
    path = write(tmp_path / "d.yml", "MODEL: {BACKBONE: {DEPTH: 18}}\n")
    with pytest.raises(InputError, match="DEPTH: 18; expected text: write '18' in quotes"):
        setup_cfg(path)


def test_nothing_is_an_empty_text_or_list(tmp_path):
    path = write(tmp_path / "c.yml", "MODEL:\n  WEIGHTS:\nTEST:\n  ATTACKS:\nKD: {}\n")
    cfg = setup_cfg(path)
    assert (cfg.MODEL.WEIGHTS, cfg.TEST.ATTACKS) == ("", [])


def test_a_relation_is_tested_alone_only_where_there_is_one():
    stig = ["MODEL.TEMPORAL.NAME", "STIG", "TEST.FEATURE", "relation"]
    assert setup_cfg(opts=stig).TEST.FEATURE == "relation"
    with pytest.raises(InputError, match=r"found .* STIG with .*RELATION.DIM 0; expected STIG and"):
        setup_cfg(opts=[*stig, "MODEL.TEMPORAL.STIG.RELATION.DIM", 0])


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
