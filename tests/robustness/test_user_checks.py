"""A check of a user's own in a report: behind ours of its group, with the same attacks."""

import errno
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from plugins.config import setup_cfg
from plugins.errors import InputError
from plugins.robustness.checks import CHECKS, PASS, Verdict, all_checks, check, run_checks
from plugins.robustness.report.markdown import markdown
from plugins.robustness.report.status import judge
from plugins.robustness.results import Scores
from tests.helpers.cards import small_card
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


FAULTY = """
from plugins.robustness.checks import at_least, check

@check("forgets", "B", "Is there a verdict?")
def forgets(runner):
    at_least(1, 1, 1, "queries", "There is one query.")

@check("mistaken", "B", "Is it an attribute?")
def mistaken(runner):
    scores = runner.clean_scores()
    return at_least(1, 1, 1, "queries", "There is one query.")

@check("healthy", "C", "Do the others cost it nothing?")
def healthy(runner):
    return at_least(1, 1, 1, "queries", "There is one query.")
"""


def test_a_faulty_check_is_an_entry_by_name_and_costs_no_other_check(tmp_path, caplog):
    CHECKS.clear()
    file = tmp_path / "faulty_checks.py"
    file.write_text(FAULTY)
    setup_cfg(plugins=[str(file)])
    runner = SimpleNamespace(subset=range(8), clean_scores=Scores(None, None, None))
    entries = [{"id": check.id, "group": check.group, **asdict(verdict)}
               for check, verdict in run_checks(runner)]  # fmt: skip
    told = {entry["id"]: entry["explanation"] for entry in entries}
    assert [entry["state"] for entry in entries] == ["ERROR", "ERROR", PASS]
    assert told["forgets"].startswith(f"The check itself fails: forgets ({file}) returned None; ")
    place = f"mistaken ({file}): TypeError in {file}:10: 'Scores' object is not callable."
    assert told["mistaken"] == f"The check itself fails: {place}"
    assert "Traceback" in caplog.text and "Check mistaken: " in caplog.text
    status = judge(entries, {"value": 50.0, "interval_over_people": [40.0, 60.0]}, 10.0)
    assert status.name == "provisional" and status.counts["faulty"] == 2
    assert "the code of a check is faulty (forgets, mistaken)" in status.headline
    assert status.headline.endswith("1 passed, 0 warned, 0 skipped, 0 failed, 2 faulty.")
    text = markdown({**small_card(), "checks": [{**entry, "question": "?"} for entry in entries]})
    assert "| B Strength" in text and "| mistaken" in text and "| ERROR" in text


def test_a_full_disk_is_no_fault_of_a_check():
    CHECKS.clear()

    def full(runner):
        raise OSError(errno.ENOSPC, "No space left on device")

    check("full", "B", "Is there space?")(full)
    with pytest.raises(OSError, match="No space left"):
        list(run_checks(SimpleNamespace(subset=range(8))))


@pytest.mark.slow
def test_a_check_that_takes_other_arguments_is_told_before_any_attack():
    with pytest.raises(InputError, match=r"check two: <lambda>\(runner, more\): missing .*runner"):
        check("two", "B", "?")(lambda runner, more: None)
