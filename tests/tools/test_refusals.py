"""What a command would pass over in silence is refused."""

import pytest
import yaml

from tests.helpers.ablations import TREE
from tests.helpers.small_runs import CONFIG, ROOT


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("check_data", ["HITSZVCM", "--sheet", "/proc/a.png"]),
        ("compare_runs", ["a", "b", "--out", "/proc/a/b.json"]),
        ("convert_data", ["--from", "HITSZVCM", "--to", "manifest", "--out", "/proc/a"]),
        ("cache_data", ["--config-file", str(CONFIG), "--out", "/proc/a"]),
        ("make_synthetic", ["--out", "/proc/a"]),
        ("make_synthetic", ["--out", "a", "--sheet", "/proc/a.png"]),
        ("extract_frames", ["table.csv", "--out", "/proc/a"]),
        ("export", ["run", "--out", "/proc/a.onnx"]),
        (
            "export_onnx",
            ["--config-file", str(CONFIG), "--out", "/proc/a.onnx", "MODEL.WEIGHTS", "w"],
        ),
        ("import_osnet", ["o.onnx", "--images", ".", "--out", "/proc/a.pth"]),
        ("compare_temporal", ["grid.yml", "--folder", ".", "--out", "/proc/a.json"]),
        ("search", ["--gallery", "g.npz", "--out", "/proc/a.csv"]),
        ("search", ["--gallery", "g.npz", "--save-gallery", "/proc/a.npz"]),
        ("threshold", ["features.npz", "--out", "/proc/a.json"]),
        ("extract", ["run", "--dataset", "HITSZVCM", "--out", "/proc/a.npz"]),
    ],
)
def test_a_place_that_takes_no_file_is_told_before_the_work(
    tool, words, run_tool, tmp_path, monkeypatch
):
    """A read-only disk, as /proc is one for a new file; the inputs are not even looked for."""
    monkeypatch.chdir(tmp_path)
    status, printed, told = run_tool(ROOT / f"tools/{tool}.py", *words)
    option = next(each for each in ("--sheet", "--save-gallery", "--out") if each in words)
    place = words[words.index(option) :][:2]
    assert (status, printed) == (2, "")
    assert told.startswith(f"error: {' '.join(place)}: cannot write there: ")


@pytest.mark.slow
def test_an_ablation_tells_a_place_that_takes_no_results_before_it_renders(
    run_tool, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yml").write_text(yaml.safe_dump(TREE))
    (tmp_path / "results").touch()
    status, _, told = run_tool(ROOT / "tools/ablate.py", "grid.yml")
    assert status == 2
    assert (
        told == "error: grid.yml: results results/grid.json: results is a file; expected a folder\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.yml", "results"]


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
