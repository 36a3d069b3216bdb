"""A report claims no more than its checks and its people carry."""

import itertools

import pytest

from plugins.robustness.checks import FAIL, PASS, SKIPPED, WARN
from plugins.robustness.report.status import COLORS, judge

GOOD = [PASS] * 9


def checks(*states, people=PASS, group="C", clean=None):
    rest = [
        {"id": f"check_{number}", "group": group, "state": state}
        for number, state in enumerate(states)
    ]
    rest += [{"id": "clean_accuracy", "group": "D", "state": clean}] if clean else []
    return [*rest, {"id": "enough_people", "group": "D", "state": people}]


def worst(value, low=None, high=None):
    ends = [value - 2 if low is None else low, value + 2 if high is None else high]
    return {"value": value, "interval_over_people": ends}


@pytest.mark.parametrize(
    ("states", "options", "value", "chance", "name", "headline"),
    [
        (GOOD, {}, 40.0, 1.0, "upper bound",
         "Worst-case Rank-1, 40.0 % [38.0, 42.0], is an upper bound of the robust accuracy under "
         "this threat model. Checks: 10 passed, 0 warned, 0 skipped, 0 failed."),
        (GOOD, {"people": WARN}, 40.0, 1.0, "provisional",
         "Provisional: there are too few people. Worst-case Rank-1, 40.0 % [38.0, 42.0], is an "
         "upper bound. Checks: 9 passed, 1 warned, 0 skipped, 0 failed."),
        (GOOD[:6] + [SKIPPED] * 3, {}, 40.0, 1.0, "provisional",
         "Provisional: 3 of 10 checks were skipped. Worst-case"),
        (GOOD[:7] + [SKIPPED] * 2, {}, 40.0, 1.0, "upper bound", "Worst-case"),
        (GOOD, {}, 2.5, 1.0, "provisional",
         "Provisional: the interval reaches down to a random list. Worst-case Rank-1, 2.5 % [0.5,"),
        (GOOD, {}, 1.0, 1.0, "not robust",
         "Not robust: worst-case Rank-1 is 1.0 %, no better than a random list (1.0 %). Checks:"),
        (GOOD, {}, 0.0, None, "not robust", "Not robust: worst-case Rank-1 is 0.0 %. Checks: 10"),
        ([FAIL, PASS], {}, 0.5, 1.0, "not robust", "Not robust: "),
        ([FAIL, PASS], {}, 40.0, 1.0, "not established",
         "Robustness not established: 1 check failed. Checks: 2 passed, 0 warned, 0 skipped, 1"),
        (GOOD, {"clean": FAIL}, 0.0, 1.0, "not established",
         "Robustness not established: without an attack, too, the model is hardly better than a r"),
        ([FAIL, FAIL], {"group": "A"}, 0.0, 1.0, "not established",
         "Robustness not established: the harness of the attacks failed. Checks: 1 passed, "),
    ],
)  # fmt: skip
def test_the_headline_says_what_the_numbers_are_worth(
    states, options, value, chance, name, headline
):
    status = judge(checks(*states, **options), worst(value), chance)
    assert status.name == name
    assert status.headline.startswith(headline)


def test_four_queries_of_three_people_with_skipped_checks_are_never_green():
    found = [*[PASS] * 20, *[SKIPPED] * 15]
    status = judge(checks(*found, people=WARN), worst(0.0, 0.0, 56.1), 33.3)
    assert (status.name, COLORS[status.name]) == ("not robust", FAIL)
    status = judge(checks(*found, people=WARN), worst(75.0, 30.1, 95.4), 33.3)
    assert (status.name, COLORS[status.name]) == ("provisional", WARN)
    assert "15 of 36 checks were skipped, there are too few people and the" in status.headline


def test_only_the_best_of_all_states_is_green():
    for states in itertools.product((PASS, WARN, SKIPPED, FAIL), repeat=3):
        status = judge(checks(*states), worst(40.0), 1.0)
        green = COLORS[status.name] == PASS
        assert green == (FAIL not in states and SKIPPED not in states)
        assert sum(status.counts.values()) == 4
