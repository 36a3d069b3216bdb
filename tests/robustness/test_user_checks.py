"""A check of a user's own in a report: behind ours of its group, with the same attacks."""

from types import SimpleNamespace

import pytest

from plugins.config import setup_cfg
from plugins.errors import InputError
from plugins.robustness.checks import CHECKS, PASS, Verdict, all_checks, check, run_checks
from tests.helpers.user_code import USERS_PARTS, nothing_left_behind


@pytest.fixture(autouse=True)
def _forget():
    with nothing_left_behind():
        yield


def half_the_queries(runner):
    return Verdict(PASS, "The check saw the attacks.", len(runner.subset) / 2)


def test_a_check_is_asked_and_a_question_for_more_queries_is_skipped():
    CHECKS.clear()
    assert check("half", "B", "Is a half a half?")(half_the_queries) is half_the_queries
    check("many", "A", "Are there many queries?", queries=9)(lambda runner: 1 / 0)
    (_, skipped), (first, verdict) = run_checks(SimpleNamespace(subset=range(8)))
    assert (first.id, first.group, verdict.value) == ("half", "B", 4.0)
    assert (skipped.state, skipped.explanation) == ("SKIPPED", "Needs at least 9 queries, got 8.")


def test_a_module_of_a_user_adds_its_check_behind_ours_of_its_group():
    ours = [each.id for each in all_checks() if each.group == "A"]
    setup_cfg(plugins=[str(USERS_PARTS)])
    added = [each.id for each in all_checks() if each.group == "A"]
    assert added == [*ours, "enough_queries"] and len(ours) == 8


def test_a_check_needs_a_known_group_and_a_new_id():
    with pytest.raises(InputError, match=r"half: no group 'Z'; known: A, B, C, D"):
        check("half", "Z", "?")
    with pytest.raises(InputError, match="check deterministic: there is one of this id"):
        check("deterministic", "C", "?")
