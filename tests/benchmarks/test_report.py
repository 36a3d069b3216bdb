"""The row of a report runs both versions on the same weights, each in a folder of its own."""

import json
import sys
from dataclasses import replace

import pytest

from plugins.benchmarks import Settings, benchmark
from plugins.benchmarks.report import check_cards, report
from plugins.errors import RunFailed

# Stands for a version of the package: notes how it was called, and writes weights or a card.
VERSION = """
import json, os, pathlib, sys
words = sys.argv[1:]
with open({log!r}, "a") as file:
    file.write(json.dumps([{name!r}, os.getcwd(), os.environ["OMP_NUM_THREADS"], *words]) + "\\n")
if words[0] == "train":
    folder = pathlib.Path(words[words.index("OUTPUT_DIR") + 1])
    folder.mkdir()
    (folder / "model_final.pth").touch()
else:
    assert pathlib.Path(words[words.index("MODEL.WEIGHTS") + 1]).is_file()
    out = pathlib.Path(words[words.index("--out") + 1])
    assert not list(out.iterdir())
    root = pathlib.Path(os.environ["FASTREID_DATASETS"], "Market-1501-v15.09.15")
    assert len(list((root / "query").iterdir())) > 6
    card = {{"clean": {{"Rank-1": {{"value": 80.0}}}}, "worst": {{"Rank-1": {{"value": {worst}}}}}}}
    (out / "Market1501_Q2G.json").write_text(json.dumps(card))
"""


def versions(folder, worst=(10.0, 12.0)):
    """Settings of a benchmark of two versions, and the file of their calls."""
    log = folder / "calls.jsonl"
    (folder / "before" / "tools").mkdir(parents=True)
    files = [folder / "now.py", folder / "before" / "tools" / "robust_report.py"]
    for file, name, value in zip(files, ("now", "before"), worst, strict=True):
        file.write_text(VERSION.format(log=str(log), name=name, worst=value))
    program = (sys.executable, str(files[0]))
    return Settings(tiny=True, against=folder / "before", program=program), log


@pytest.mark.slow
def test_both_versions_report_on_the_same_weights(tmp_path):
    settings, log = versions(tmp_path)
    (row,) = benchmark(["report"], settings)["rows"]
    assert row["name"] == "robustness report, level quick, 6 queries, ResNet-18 at 64x32"
    assert row["unit"] == "CPU s" and row["ours"] > 0 and row["target"] == 2
    train, ours, theirs = map(json.loads, log.read_text().splitlines())
    assert (train[0], train[3], ours[0], ours[3]) == ("now", "train", "now", "report")
    assert theirs[:2] == ["before", str(tmp_path / "before")]
    assert {call[2] for call in (train, ours, theirs)} == {"1"}
    out = ours.index("--out") + 1
    assert ours[out] != theirs[out - 1]
    assert ours[4:out] + ours[out + 1 :] == theirs[3 : out - 1] + theirs[out:]


@pytest.mark.slow
def test_different_cards_end_the_benchmark(tmp_path):
    settings, _ = versions(tmp_path, worst=(10.0, 25.0))
    with pytest.raises(RunFailed, match=r"worst Rank-1 10\.0 and 25\.0"):
        benchmark(["report"], settings)
    with pytest.raises(AssertionError, match=r"clean Rank-1 80\.0 and 81\.0"):
        check_cards((80.0, 10.0), (81.0, 10.0))


@pytest.mark.slow
def test_a_version_that_cannot_run_is_named(tmp_path):
    settings, _ = versions(tmp_path)
    (tmp_path / "before" / "tools" / "robust_report.py").write_text("import no_such_module")
    with pytest.raises(RunFailed, match="No module named 'no_such_module'"):
        benchmark(["report"], settings)


def test_without_another_version_there_is_no_row():
    assert report(replace(Settings(), against=None)) == []
    assert benchmark(["report"], Settings())["rows"] == []
