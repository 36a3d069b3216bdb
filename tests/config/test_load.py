"""Reading a config, and what a user is told when it is wrong."""

from pathlib import Path

import pytest

from plugins.config import default_cfg, flatten, setup_cfg
from plugins.errors import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


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
        ("SEED: 0\n", ["SEED", "=", "1"], "'SEED =': a space beside the =; expected SEED=VALUE or"),
        ("SEED: 0\n", ["SEED=", "1"], "command line: 'SEED =': a space beside the ="),
        ("SEED: 0\n", ["SEED", "=1"], "command line: 'SEED =': a space beside the ="),
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


def test_a_section_over_a_value_names_the_file_that_has_it(tmp_path):
    write(tmp_path / "a.yml", "SOLVER: {MAX_EPOCH: 1}\n")
    write(tmp_path / "b.yml", "_BASE_: a.yml\nSOLVER: {MAX_EPOCH: {a: 1}}\n")
    message = r"b\.yml: SOLVER\.MAX_EPOCH is a section here and a value in its _BASE_"
    with pytest.raises(InputError, match=message):
        setup_cfg(write(tmp_path / "c.yml", "_BASE_: b.yml\nSEED: 1\n"))


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


def test_a_missing_config_file_is_named():
    with pytest.raises(InputError, match=r"--config-file nowhere\.yml: no such file"):
        setup_cfg("nowhere.yml")


def test_defaults_hold_every_key_of_fastreid_and_ours():
    cfg = default_cfg()
    assert cfg.SOLVER.OPT == "Adam"
    assert cfg.SOLVER.STEP == "SimpleStep"
