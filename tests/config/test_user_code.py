"""Modules of a user: imported once, refused in one line; what a run's folder names stays out."""

import sys
from pathlib import Path

import pytest

from plugins.config import default_cfg, flatten, setup_cfg
from plugins.config.user_code import split_names, why_recorded
from plugins.errors import InputError
from plugins.registry import LOSS, lookup
from tests.helpers.user_code import OWN_PARTS, USERS_PARTS, nothing_left_behind

KEY = """
from plugins.config import Key, add_keys

def add_config(cfg):
    add_keys(cfg, {"MINE.WEIGHT": Key(0.5, "Weight of mine.", least=0)})
"""


@pytest.fixture(autouse=True)
def _forget():
    with nothing_left_behind():
        yield


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine_of_a_user.py").write_text(KEY)
    return "mine_of_a_user.py"


def test_names_are_split_and_each_is_kept_once():
    assert split_names(["a.py, b", "", "b,c.d"]) == ["a.py", "b", "c.d"]


def test_a_file_brings_a_key_that_is_checked_as_ours_are(mine):
    cfg = setup_cfg(opts=["MINE.WEIGHT", "2"], plugins=[mine])
    assert (2.0, [mine]) == (cfg.MINE.WEIGHT, cfg.PLUGINS)
    with pytest.raises(InputError, match=r"^MINE\.WEIGHT: -1\.0; expected 0 or more"):
        setup_cfg(opts=["MINE.WEIGHT", "-1"], plugins=[mine])
    with pytest.raises(InputError, match=r"no config key 'MINE\.WEIGHT'"):
        setup_cfg(opts=["MINE.WEIGHT", "2"])
    assert "MINE.WEIGHT" not in dict(flatten(default_cfg()))


@pytest.mark.parametrize("how", ["PLUGINS on the command line", "config", "base", "module"])
def test_a_config_and_the_command_line_bring_it_too(mine, how):
    Path("base.yml").write_text(f"PLUGINS: [{mine}]\nMINE: {{WEIGHT: 3}}\n")
    Path("child.yml").write_text("_BASE_: base.yml\n")
    Path("plain.yml").write_text("MINE: {WEIGHT: 3}\n")
    cfg = {
        "PLUGINS on the command line": lambda: setup_cfg("plain.yml", ["PLUGINS", mine]),
        "config": lambda: setup_cfg("base.yml"),
        "base": lambda: setup_cfg("child.yml"),
        "module": lambda: setup_cfg("plain.yml", plugins=["mine_of_a_user"]),
    }[how]()
    assert cfg.MINE.WEIGHT == 3.0
    Path("dump.yml").write_text(cfg.dump())
    assert setup_cfg("dump.yml") == cfg


def test_the_command_line_wins_over_the_list_of_a_config(mine):
    Path("other_of_a_user.py").write_text("")
    Path("c.yml").write_text("PLUGINS: other_of_a_user.py\n")
    assert [mine, "other_of_a_user.py"] == setup_cfg("c.yml", plugins=[mine]).PLUGINS
    assert [mine] == setup_cfg("c.yml", [f"PLUGINS=[{mine}]"]).PLUGINS
    assert setup_cfg("c.yml", ["PLUGINS", "[]"]).PLUGINS == []


@pytest.mark.parametrize("name", ["config.yaml", "renamed.yml"])
def test_what_the_folder_of_a_run_names_is_imported_only_where_it_is_asked_for(name, mine):
    Path("mine_of_a_user.py").write_text(KEY + "open('mark', 'w')\n")
    run = Path("run")
    run.mkdir()
    (run / "model_final.pth").touch()
    (run / name).write_text("PLUGINS: [mine_of_a_user.py]\nMINE: {WEIGHT: 3}\n")
    told = rf"run/{name}: PLUGINS names mine_of_a_user\.py; .*: add --plugins mine_of"
    for config in (str(run / name), "child.yml"):
        Path("child.yml").write_text(f"_BASE_: run/{name}\n")
        with pytest.raises(InputError, match=told):
            setup_cfg(config)
    # What the record is based on belongs to it, wherever it lies.
    (run / "below").mkdir()
    (run / "below/base.yml").write_text("PLUGINS: [mine_of_a_user.py]\n")
    (run / name).write_text("_BASE_: below/base.yml\n")
    with pytest.raises(InputError, match=r"below/base\.yml: PLUGINS names mine_of_a_user\.py; "):
        setup_cfg(str(run / name))
    (run / name).write_text("PLUGINS: [mine_of_a_user.py]\nMINE: {WEIGHT: 3}\n")
    assert not Path("mark").exists() and "mine_of_a_user" not in sys.modules
    assert setup_cfg(str(run / name), plugins=["./mine_of_a_user.py"]).MINE.WEIGHT == 3.0
    assert Path("mark").exists()
    # A program that has imported the module by itself needs no option.
    assert setup_cfg(str(run / name)).PLUGINS == ["mine_of_a_user"]


def test_a_run_is_told_from_a_config_of_ones_own(tmp_path):
    assert why_recorded(str(tmp_path / "config.yaml"))
    assert not why_recorded(str(tmp_path / "mine.yml"))
    (tmp_path / "model_0001.pth").touch()
    assert "model_0001.pth" in why_recorded(str(tmp_path / "mine.yml"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nowhere.py", None, r"--plugins nowhere\.py: no such file"),
        ("no_where.at_all", None, r"--plugins no_where\.at_all: ModuleNotFoundError: No module"),
        ("json.py", "", r"--plugins json\.py: Python has another module json \(.*expected a f"),
        ("tabnanny.py", "", r"--plugins tabnanny\.py: Python has another module tabnanny"),
        ("bad_a.py", "x = (", r"--plugins bad_a\.py: SyntaxError: .*bad_a\.py, line 1"),
        ("bad_b.py", "\n1 / 0", r"bad_b\.py: ZeroDivisionError in .*bad_b\.py:2: division by zero"),
        ("bad_c.py", "import no_such_thing", r"bad_c\.py: ModuleNotFoundError: No module named 'n"),
        ("bad_h.py", "import sys\nsys.exit(0)", r"bad_h\.py: SystemExit in .*bad_h\.py:2: 0"),
        ("bad_i.py", "def add_config(cfg): exit()", r"bad_i: add_config: SystemExit in "),
        ("bad_d.py", "def add_config(cfg): cfg.NO.SUCH", r"bad_d: add_config: AttributeError in "),
        ("bad_e.py", "def add_config(cfg): cfg.SEED = 3", r"bad_e: add_config changes SEED, which"),
        ("bad_f.py", "def add_config(cfg): del cfg['TEST']", r"bad_f: add_config changes TEST\."),
        ("bad_j.py", "def add_config(): pass", r"bad_j: add_config \(bad_j\.py\): too many positi"
         r"onal arguments; expected add_config\(cfg\)$"),
        ("bad_k.py", "add_config = 3", r"bad_k: add_config \(bad_k\.py\) is 3; expected a functi"),
        ("bad_l.py", KEY.replace('Key(0.5, "Weight of mine.", least=0)', "0.5"),
         r"^bad_l: add_config: in bad_l\.py:5: MINE\.WEIGHT: 0\.5; expected a Key with a default"),
        ("bad_m.py", KEY.replace("0.5", "'a'"), r"^bad_m: add_config: in bad_m\.py:5: Key: defau"
         r"lt 'a', 0 or more; expected a number where there are limits$"),
        ("bad_n.py", KEY.replace("0.5", "-1.0"), r"bad_n\.py:5: Key: default -1\.0; expected 0 o"),
        ("bad_o.py", KEY.replace("0.5", "None"), r"bad_o\.py:5: Key: default None; expected True"),
        ("bad_p.py", KEY.replace("{", "[").replace("}", "]").replace(": Key", ", Key"),
         r"bad_p\.py:5: add_keys: \['MINE\.WEIGHT', .*; expected {name: Key\(\.\.\.\), \.\.\.}$"),
        ("bad_q.py", KEY.replace("MINE.W", "TEST.METRIC.W"),
         r"bad_q\.py:5: TEST\.METRIC\.WEIGHT: METRIC is a key already"),
        ("bad_r.py", KEY.replace("MINE.WEIGHT", "MINE.MY WEIGHT"),
         r"bad_r\.py:5: add_keys: 'MINE\.MY WEIGHT'; expected a name such as MODEL\.LOSSES\.MINE"),
        ("a_file.py", None, r"^--plugins a_file\.py: a folder; expected a file \(\.py\)"),
        ("a_folder", None, r"^--plugins a_folder: a folder without __init__\.py; expected a fil"),
        (".", None, r"^--plugins \.: a folder; expected a file \(\.py\) or the name of a module$"),
        ("README.md", "", r"^--plugins README\.md: a file; expected a file \(\.py\) or the name o"),
        ("no-such", None, r"^--plugins no-such: no such file, and no module has such a name; exp"),
        (
            "bad_g.py",
            "from plugins.registry import LOSS\n@LOSS.register()\nclass CrossModalTriplet: pass",
            r"bad_g\.py: it registers the LOSS CrossModalTriplet, as CrossModalTriplet \(.*modules"
            r"\.py\) does already; expected another name",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_one_line(name, text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a_folder", "a_file.py"):
        Path(folder).mkdir()
    if text is not None:
        Path(name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        setup_cfg(plugins=[name])
    assert "\n" not in str(caught.value)


def test_two_files_with_one_key_are_both_named(mine):
    Path("other_of_a_user.py").write_text(KEY)
    with pytest.raises(InputError) as caught:
        setup_cfg(plugins=[mine, "other_of_a_user.py"])
    assert str(caught.value) == (
        "other_of_a_user: add_config: in other_of_a_user.py:5: MINE.WEIGHT: there is such a key "
        "already, of mine_of_a_user.py; expected another name"
    )
    assert setup_cfg(plugins=[mine]).MINE.WEIGHT == 0.5


CHECK = """
from plugins.robustness.checks import check

@check("enough", "B", "Are there queries?", queries=2)
def enough(runner):
    pass
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2", "'2'", "check enough: queries='2'; expected a whole number, 1 or more"),
        ("2", "0", "check enough: queries=0; expected a whole number, 1 or more"),
        ("2", "True", "check enough: queries=True; expected a whole number, 1 or more"),
        ('"B"', "3", "check enough: no group 3; known: A, B, C, D"),
        ("", "", "check enough: there is one of this id, enough (first_of_a_user.py); expected an"),
    ],
)
def test_a_faulty_registration_of_a_check_names_check_and_file(
    old, new, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    names = ["checks_of_a_user.py"] if old else ["first_of_a_user.py", "checks_of_a_user.py"]
    for name in names:
        Path(name).write_text(CHECK.replace(old, new) if old else CHECK)
    with pytest.raises(InputError) as caught:
        setup_cfg(plugins=names)
    start = "--plugins checks_of_a_user.py: in checks_of_a_user.py:4: "
    assert str(caught.value).startswith(start + message), caught.value


def test_a_misspelled_file_names_the_nearest(mine):
    with pytest.raises(
        InputError, match=r"mine_of_user\.py: no such file; nearest there: mine_of_a"
    ):
        setup_cfg(plugins=["mine_of_user.py"])


def test_a_part_without_its_decorator_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    Path("plain_of_a_user.py").write_text("class Plain: pass\n")
    setup_cfg(plugins=["plain_of_a_user.py"])
    assert "--plugins plain_of_a_user.py: it was imported and adds nothing; a part" in caplog.text
    with pytest.raises(
        InputError,
        match=r"no LOSS is named 'Plain'; .*; Plain \(plain_of_a_user\.py"
        r"\) was imported and is not registered: add @LOSS\.register\(\) above it$",
    ):
        lookup(LOSS, "Plain", "MODEL.LOSSES.NAME")
    with pytest.raises(InputError, match=r"no LOSS is named 'Plan'; .*brought plain_of_a_user$"):
        lookup(LOSS, "Plan", "MODEL.LOSSES.NAME")


@pytest.mark.parametrize("file", [OWN_PARTS, USERS_PARTS])
def test_a_module_with_parts_is_not_told(file, caplog):
    setup_cfg(plugins=[str(file)])
    assert not caplog.text


def test_a_value_of_plugins_that_is_no_name_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.yml").write_text("PLUGINS: [1]\n")
    with pytest.raises(InputError, match=r"c\.yml: PLUGINS: \[1\]; expected a list of names"):
        setup_cfg("c.yml")


@pytest.mark.slow
def test_an_installed_distribution_announces_its_modules(tmp_path, monkeypatch):
    (tmp_path / "parts_of_a_package.py").write_text(KEY)
    about = tmp_path / "mine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[fastreid_plugins]\nmine = parts_of_a_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = setup_cfg()
    assert (cfg.MINE.WEIGHT, cfg.PLUGINS) == (0.5, ["parts_of_a_package"])
    assert setup_cfg(plugins=["parts_of_a_package"]).PLUGINS == ["parts_of_a_package"]
