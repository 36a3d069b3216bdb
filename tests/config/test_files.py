"""Where a config is looked for: here, in ``configs`` here, then among those of the package."""

import os
import shutil
from pathlib import Path

import pytest

from plugins.config import files, read_config, setup_cfg
from plugins.config.files import SHIPPED, find_config, shipped_configs
from plugins.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
NAME = "VVI/synthetic/sadstrm.yml"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_checkout_ships_its_own_configs():
    assert SHIPPED == ROOT / "configs" and NAME in shipped_configs()


@pytest.mark.parametrize("name", [NAME, f"configs/{NAME}"])
def test_a_config_of_the_package_is_found_with_its_bases(here, name):
    assert find_config(name) == str(SHIPPED / NAME)
    assert read_config(name) == read_config(str(SHIPPED / NAME))
    assert setup_cfg(name).MODEL.META_ARCHITECTURE == "SADSTRM"


@pytest.mark.parametrize("name", [NAME, f"configs/{NAME}"])
@pytest.mark.parametrize("place", [NAME, f"configs/{NAME}"])
def test_a_file_of_the_working_folder_wins(here, name, place):
    (here / place).parent.mkdir(parents=True)
    (here / place).write_text("SEED: 7\n")
    shipped = name.startswith("configs") and not place.startswith("configs")
    assert setup_cfg(name).SEED == 7 or shipped
    assert find_config(name) == (str(SHIPPED / NAME) if shipped else place)


def test_the_path_itself_wins_over_the_folder_configs(here):
    for place in ("a.yml", "configs/a.yml"):
        Path(place).parent.mkdir(exist_ok=True)
        Path(place).write_text("")
    assert find_config("a.yml") == "a.yml"
    assert find_config("configs/a.yml") == "configs/a.yml"


def test_a_missing_one_names_where_it_was_looked_for_and_the_nearest(here):
    with pytest.raises(InputError) as raised:
        setup_cfg("configs/VVI/sadstm.yml")
    assert str(raised.value).startswith(
        "--config-file configs/VVI/sadstm.yml: no such file, neither here nor in "
        f"{SHIPPED}; nearest there: VVI/sadstrm.yml, "
    )


@pytest.mark.parametrize("name", ["logs/run/config.yaml", "x.pth", "../a.yml", "/nowhere/a.yml"])
def test_what_no_shipped_config_can_be_is_only_looked_for_here(here, name):
    with pytest.raises(InputError) as raised:
        find_config(name)
    assert str(raised.value) == f"--config-file {name}: no such file"


def test_a_forgotten_ending_is_told(here):
    with pytest.raises(
        InputError, match=r"VVI/sadstrm: no such file; did you mean VVI/sadstrm.yml"
    ):
        find_config("VVI/sadstrm")
    Path("mine.yml").write_text("_BASE_: VVI/sadstrm\n")
    with pytest.raises(
        InputError, match=r"VVI/sadstrm does not exist; did you mean VVI/sadstrm.yml"
    ):
        read_config("mine.yml")


def test_the_folder_of_a_run_offers_its_config(here):
    Path("run").mkdir()
    for name in ("config.yaml", "model_final.pth"):
        Path("run", name).touch()
    with pytest.raises(InputError, match=r"a folder; expected a file, such as run/config.yaml$"):
        find_config("run")


def test_a_copied_config_has_its_base_in_the_package(here):
    Path(NAME).parent.mkdir(parents=True)
    shutil.copy(SHIPPED / NAME, NAME)
    assert read_config(NAME) == read_config(str(SHIPPED / NAME))


@pytest.mark.parametrize("name", ["VVI", "VVI/sadstrm.yml"])
def test_a_folder_is_no_config(here, name):
    os.makedirs(name)
    with pytest.raises(InputError, match=f"--config-file {name}: a folder; expected a file"):
        find_config(name)


@pytest.mark.parametrize("name", [NAME, f"configs/{NAME}"])
def test_a_config_of_ones_own_starts_from_one_of_the_package(here, name):
    own = here / "deeper/own.yml"
    own.parent.mkdir()
    own.write_text(f"_BASE_: {name}\nSEED: 7\n")
    cfg = setup_cfg("deeper/own.yml")
    assert (cfg.SEED, cfg.MODEL.META_ARCHITECTURE) == (7, "SADSTRM")
    # A file that lies there from the config on wins.
    beside = own.parent / name
    beside.parent.mkdir(parents=True)
    beside.write_text("MODEL: {META_ARCHITECTURE: VVIBaseline}\n")
    assert setup_cfg("deeper/own.yml").MODEL.META_ARCHITECTURE == "VVIBaseline"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("VVI/sadstm.yml", "expected a file or a config of the package; nearest there: VVI/sadst"),
        ("../VVI/sadstrm.yml", "expected a file"),
        ("base.yaml", "expected a file"),
    ],
)
def test_a_missing_base_names_the_config_and_the_nearest(here, name, expected):
    Path("own.yml").write_text(f"_BASE_: {name}\n")
    with pytest.raises(InputError) as raised:
        setup_cfg("own.yml")
    assert str(raised.value).startswith(f"own.yml: its _BASE_ {name} does not exist; {expected}")


@pytest.mark.slow
def test_without_shipped_configs_only_the_working_folder_counts(here, monkeypatch):
    monkeypatch.setattr(files, "SHIPPED", here / "nowhere")
    with pytest.raises(InputError, match=f"--config-file {NAME}: no such file$"):
        find_config(NAME)
    shutil.copytree(SHIPPED, here / "configs")
    assert find_config(f"configs/{NAME}") == f"configs/{NAME}"
