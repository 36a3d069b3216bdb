"""An exception of a user's code is one line with its place; a defect of this package is not."""

import pytest

from plugins.config.user_code import import_plugins
from plugins.errors import user_errors
from tests.helpers.user_code import nothing_left_behind

OWN = """
import torch
from plugins.config import default_cfg
from plugins.utils.names import closest_names
import helper_of_a_user

def add_config(cfg):
    pass

class Part:
    def missing_key(self):
        return default_cfg().DEFENSE.EPSILON

    def shape(self):
        return torch.ones(2) @ torch.ones(3)

    def without_words(self):
        assert 1 > 2

    def helped(self):
        helper_of_a_user.divide()

    def back_into_the_package(self):
        return closest_names(3, None)
"""


@pytest.fixture
def part(tmp_path, monkeypatch):
    """An object of a class in a file that was imported as --plugins imports it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helper_of_a_user.py").write_text("def divide():\n    1 / 0\n")
    (tmp_path / "part_of_a_user.py").write_text(OWN)
    with nothing_left_behind():
        (module,) = import_plugins(["part_of_a_user.py"])
        yield module.Part()


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (
            "missing_key",
            "Part.missing_key: AttributeError in part_of_a_user.py:12: no config key EPSILON; "
            "nearest: EPS, ",
        ),
        ("shape", "Part.shape: RuntimeError in part_of_a_user.py:15: inconsistent tensor size"),
        ("without_words", "Part.without_words: AssertionError in part_of_a_user.py:18\n"),
        ("helped", "divide: ZeroDivisionError in helper_of_a_user.py:2: division by zero"),
    ],
)
def test_a_fault_of_a_user_ends_a_command_with_one_line(method, told, part, capsys):
    with pytest.raises(SystemExit) as stop:
        user_errors(getattr(part, method))()
    line = capsys.readouterr().err
    assert (stop.value.code, line.count("\n")) == (2, 1)
    assert line.startswith(f"error: {told}")


@pytest.mark.slow
def test_a_fault_inside_the_package_keeps_its_traceback_whoever_called(part, capsys):
    with pytest.raises(TypeError):
        user_errors(part.back_into_the_package)()
    with pytest.raises(ZeroDivisionError):
        user_errors(lambda: 1 / 0)()
    assert capsys.readouterr().err == ""
