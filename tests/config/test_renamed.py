"""A config of an earlier version is told what its keys are called now."""

import re

import pytest

from plugins.config import default_cfg, flatten, setup_cfg
from plugins.config.renamed import RENAMED, new_name
from plugins.errors import InputError

LEAVES = dict(flatten(default_cfg()))


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_is_told_its_new_one_which_exists(old, new, tmp_path):
    assert new in LEAVES and old not in LEAVES
    told = re.escape(f"{old} was renamed to {new}; expected that name")
    with pytest.raises(InputError, match=f"^command line: {told}$"):
        setup_cfg(opts=[old, "1"])
    *sections, last = old.split(".")
    text = "".join(f"{'  ' * depth}{name}:\n" for depth, name in enumerate(sections))
    (tmp_path / "old.yml").write_text(f"{text}{'  ' * len(sections)}{last}: 1\n")
    with pytest.raises(InputError, match=rf"old\.yml: {told}$"):
        setup_cfg(str(tmp_path / "old.yml"))


def test_a_name_that_never_was_is_told_the_nearest():
    assert new_name("SOLVER.MAX_EPOCHS") == ""
    with pytest.raises(InputError, match=r"no config key 'SOLVER.MAX_EPOCHS'; nearest: SOLVER.MAX"):
        setup_cfg(opts=["SOLVER.MAX_EPOCHS", "1"])
