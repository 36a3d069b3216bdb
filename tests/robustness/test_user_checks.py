"""A check of a user's own in a report: behind ours, asked with the same runner, named once."""

from types import SimpleNamespace

import pytest

from plugins.config import setup_cfg
from plugins.errors import InputError
from plugins.robustness.checks import (
    CHECKS,
    PASS,
    Check,
    Verdict,
    add_check,
    all_checks,
    catalogue,
    run_checks,
)
from tests.helpers.user_code import USERS_PARTS, nothing_left_behind


@pytest.fixture(autouse=True)
def _forget():
    with nothing_left_behind():
        yield


def half_the_queries(runner):
    return Verdict(PASS, "The check saw the runner.", len(runner.subset) / 2)


def test_a_check_is_asked_behind_ours(monkeypatch):
    monkeypatch.setattr(catalogue, "CHECKS", ())
    add_check(Check("half", "B", "Is a half a half?", half_the_queries))
    add_check(Check("many", "B", "Are there many queries?", lambda runner: 1 / 0, queries=9))
    (first, verdict), (_, skipped) = run_checks(SimpleNamespace(subset=range(8)))
    assert (first.id, verdict.value) == ("half", 4.0)
    assert (skipped.state, skipped.explanation) == ("SKIPPED", "Needs at least 9 queries, got 8.")


def test_a_module_of_a_user_adds_its_check():
    setup_cfg(plugins=[str(USERS_PARTS)])
    assert [check.id for check in all_checks()[len(CHECKS) :]] == ["enough_queries"]


def test_a_check_needs_a_known_group_and_a_new_id():
    with pytest.raises(InputError, match=r"half: no group 'Z'; known: A, B, C, D"):
        add_check(Check("half", "Z", "?", half_the_queries))
    with pytest.raises(InputError, match="check deterministic: there is one of this id"):
        add_check(next(check for check in CHECKS if check.id == "deterministic"))
