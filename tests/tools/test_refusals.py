"""What a command would pass over in silence is refused."""

import pytest

from tests.helpers.small_runs import ROOT


@pytest.mark.parametrize(
    ("tool", "words", "message"),
    [
        ("make_synthetic", ["--imbalance", "0.5", "--out", "ms"],
         "imbalance: 0.5, but layout hitsz-vcm has tracklets"),
        ("make_synthetic", ["--workers", "0", "--out", "ms"], "--workers 0: expected 1 or more"),
        ("check_data", ["HITSZVCM", "--workers", "100000"], "--workers 100000: expected 1 to "),
        ("cache_data", ["--verify", "cache", "SEED", "3"], "takes no config; found SEED 3"),
        ("compare_runs", ["a", "b", "--metric", "mAP", "mAP"], "--metric mAP: named twice"),
    ],
)  # fmt: skip
def test_what_would_be_ignored_is_refused(tool, words, message, run_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, printed, told = run_tool(ROOT / f"tools/{tool}.py", *words)
    assert (status, printed) == (2, "")
    assert told.startswith("error: ") and message in told
    assert not (tmp_path / "ms").exists()
