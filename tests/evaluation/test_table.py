"""The printed table and the check of expected numbers."""

import pytest

from plugins.errors import InputError
from plugins.evaluation.table import by_task, check_expected, results_table, verify_expected

BLOCK = {
    "Rank-1": 65.314,
    "Rank-5": 77.86,
    "Rank-10": 82.66,
    "Rank-20": 100.0,
    "mAP": 49.495,
    "mINP": 5.0,
    "metric": 57.4045,
    "queries": 4584,
}
RESULTS = {
    "HITSZVCM": {"I2V": BLOCK, "V2I": BLOCK | {"queries": 5099}, "metric": 57.4045},
    "BUPTCampus": {"I2V": BLOCK | {"mAP": float("nan")}, "metric": float("nan")},
}


TABLE = """
| Dataset        | Rank-1   | Rank-5   | Rank-10   | Rank-20   | mAP   | mINP   | metric   | queries   |
|:---------------|:---------|:---------|:----------|:----------|:------|:-------|:---------|:----------|
| HITSZVCM/I2V   | 65.31    | 77.86    | 82.66     | 100.00    | 49.49 | 5.00   | 57.40    | 4584      |
| HITSZVCM/V2I   | 65.31    | 77.86    | 82.66     | 100.00    | 49.49 | 5.00   | 57.40    | 5099      |
| BUPTCampus/I2V | 65.31    | 77.86    | 82.66     | 100.00    | nan   | 5.00   | 57.40    | 4584      |
"""  # noqa: E501


def test_table_has_one_row_per_data_set_and_direction_in_fastreids_style():
    assert results_table(RESULTS) == TABLE.strip()


def test_numbers_within_their_tolerance_pass():
    rows = [["HITSZVCM/I2V", "Rank-1", 65.0, 0.5], ["HITSZVCM/V2I", "queries", 5099, 0]]

    assert verify_expected(rows, RESULTS) == []
    assert verify_expected([], RESULTS) == []


def test_each_miss_is_one_line_with_both_numbers():
    rows = [
        ["HITSZVCM/I2V", "Rank-1", 65.0, 0.3],
        ["HITSZVCM/I2V", "Rank-5", 77.8, 0.1],
        ["HITSZVCM/V2I", "mINP", 5.5, 0.4],
    ]

    assert verify_expected(rows, RESULTS) == [
        "HITSZVCM/I2V Rank-1: expected 65.0 ± 0.3, found 65.31",
        "HITSZVCM/V2I mINP: expected 5.5 ± 0.4, found 5.00",
    ]


def test_a_nan_is_a_miss():
    (miss,) = verify_expected([["BUPTCampus/I2V", "mAP", 50.0, 1000.0]], RESULTS)

    assert miss.endswith("found nan")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["HITSZVCM/I2I", "mAP", 1, 1], "row 2: no task 'HITSZVCM/I2I'; known: HITSZVCM/"),
        (["HITSZVCM/I2V", "map", 1, 1], "row 2: no metric 'map'; known: mAP, "),
        (["HITSZVCM/I2V", "mAP", 1], r"row 2: expected \[task, metric, expected, tolerance\]"),
        (["HITSZVCM/I2V", "mAP", "50%", 1], "row 2: found '50%', expected a finite number"),
        (["HITSZVCM/I2V", "mAP", 50, None], "row 2: found None, expected a finite number"),
        (["HITSZVCM/I2V", "mAP", float("nan"), 1], "row 2: found nan, expected a finite number"),
        (["HITSZVCM/I2V", "mAP", True, 1], "row 2: found True, expected a finite number"),
        ([1, "mAP", 50, 1], "row 2: no task '1'; known: HITSZVCM/"),
    ],
)
def test_a_row_that_cannot_be_checked_is_an_error_with_its_number_before_any_result(row, message):
    rows = [["HITSZVCM/I2V", "mAP", 49.5, 1], row]
    with pytest.raises(InputError, match=message):
        check_expected(rows, by_task(RESULTS))
    with pytest.raises(InputError, match=message):
        verify_expected(rows, RESULTS)


def test_a_metric_that_a_block_lacks_is_named():
    with pytest.raises(InputError, match="row 1: no metric 'mAP-std'; known: mAP, "):
        verify_expected([["HITSZVCM/I2V", "mAP-std", 1, 1]], RESULTS)
