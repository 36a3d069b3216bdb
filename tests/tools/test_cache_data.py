"""tools/cache_data.py as a user meets it: pack, verify, train with it, kill it."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from plugins.engine import read_cfg, run
from tests.helpers.small_runs import CONFIG, ROOT, environment, options
from tools.train_net import parse_arguments

TOOL = ROOT / "tools/cache_data.py"
PACK = ["--config-file", str(CONFIG), "INPUT.SIZE_TRAIN", "[32,16]", "INPUT.SIZE_TEST", "[32,16]"]


@pytest.fixture
def cache_data(datasets, monkeypatch, run_tool):
    """Runs the tool in this process; gives its exit status and output."""
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    return functools.partial(run_tool, TOOL)


def train(output: Path, **changes) -> tuple[dict, dict]:
    """One epoch and its evaluation: the weights and the results."""
    flags = ["--config-file", str(CONFIG)]
    short = {"SOLVER__MAX_EPOCH": 1, "SOLVER__WARMUP_EPOCHS": 0, "TEST__EVAL_PERIOD": 1}
    args = parse_arguments([*flags, *options(output, **short, **changes)])
    run(read_cfg(args), args)
    weights = torch.load(output / "model_final.pth", weights_only=True)["model"]
    return weights, json.loads((output / "results.json").read_text())["results"]


@pytest.mark.slow
def test_a_run_with_the_cache_is_the_run_without_it(cache_data, tmp_path):
    """Same weights, to the bit, and same scores."""
    cache = tmp_path / "cache"
    status, out, _ = cache_data(*PACK, "--out", str(cache), "--workers", "2")
    assert status == 0
    size = sum(file.stat().st_size for file in (cache / "32x16").iterdir())
    assert out.splitlines() == [
        f"{cache}/32x16: {size / 1e6:,.1f} MB",
        f"use it with: DATALOADER.FRAME_CACHE {cache}",
    ]
    decoded, scores = train(tmp_path / "decoded")
    cached, cached_scores = train(tmp_path / "cached", DATALOADER__FRAME_CACHE=cache)
    assert scores["HITSZVCM"] == cached_scores["HITSZVCM"]
    assert decoded.keys() == cached.keys()
    assert all(torch.equal(decoded[key], cached[key]) for key in decoded)


def test_verifying_finds_what_changed(cache_data, tmp_path):
    cache = tmp_path / "cache"
    assert cache_data(*PACK, "--out", str(cache), "--workers", "0")[0] == 0
    status, out, _ = cache_data("--verify", str(cache))
    assert status == 0
    frames = (cache / "32x16/frames.bin").stat().st_size // (32 * 16 * 3)
    assert out == f"{cache}/32x16: {frames} frames as packed\n"

    with open(cache / "32x16/frames.bin", "r+b") as file:
        file.seek(32 * 16 * 3 * 5)
        file.write(bytes(reversed(range(256))))
    status, _, err = cache_data("--verify", str(cache))
    assert status == 2
    last = err.splitlines()[-1]
    assert last.startswith(f"error: {cache}/32x16/frames.bin: 1 of {frames} frames are not as")
    assert "HITSZ-VCM/" in last and ".jpg" in last
    assert f"python tools/cache_data.py --config-file ... --out {cache}" in last


def test_one_bar_is_shown_for_the_frames_of_both_sizes(cache_data, tmp_path):
    cache = tmp_path / "cache"
    words = [*PACK, "INPUT.SIZE_TEST", "[16,8]", "--out", str(cache), "--workers", "0"]
    for title, call in (("packing", words), ("comparing", ["--verify", str(cache)])):
        status, _, err = cache_data(*call)
        assert status == 0
        sizes = {"32x16": 32 * 16 * 3, "16x8": 16 * 8 * 3}
        frames = sum(
            (cache / name / "frames.bin").stat().st_size // of for name, of in sizes.items()
        )
        bars = [line for line in re.split(r"[\r\n]+", err) if "%|" in line]
        assert {line.split(":")[0] for line in bars} == {f"{title} {cache}"}
        assert f" {frames}/{frames} " in bars[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--verify", "nowhere"], "--verify nowhere: no frames there"),
        ([*PACK, "--out", "cache", "--workers", "-1"], "--workers -1: expected 0 or more"),
        ([*PACK, "DATASETS.TESTS", "['HITSZ']", "--out", "cache"], "DATASETS.TESTS: no DATASET"),
        ([*PACK, "--out", str(TOOL)], f"--out {TOOL}: {TOOL} is a file; expected a folder"),
        ([*PACK, "--out", f"{TOOL}/x"], f"--out {TOOL}/x: {TOOL} is a file; expected a folder"),
        ([*PACK, "INPUT.SIZE_TEST", "[0,4]", "--out", "cache"], "INPUT.SIZE_TEST: [0, 4]"),
    ],
)
def test_a_mistake_is_one_line(cache_data, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = cache_data(*words)
    assert status == 2
    assert err.splitlines()[-1].startswith(f"error: {message}")
    assert os.listdir(tmp_path) == []


@pytest.fixture
def unreadable(tmp_path):
    """A file that is no whole image, and the options of a set that lists it."""
    root = tmp_path / "own"
    root.mkdir()
    broken = root / "broken.jpg"
    broken.write_bytes(b"\xff\xd8")
    rows = "path,person,camera,modality,tracklet,frame,split\nbroken.jpg,1,1,visible,1,1,train\n"
    (root / "manifest.csv").write_text(rows)
    options = ["DATASETS.NAMES", "['ManifestDataset']"]
    return broken, [*options, "DATASETS.MANIFEST.FILE", str(root / "manifest.csv")]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_unreadable_frame_is_one_line_and_no_cache(cache_data, tmp_path, unreadable, workers):
    broken, options = unreadable
    cache = tmp_path / "cache"
    status, _, err = cache_data(*PACK, *options, "--out", str(cache), "--workers", workers)
    assert status == 2
    assert err.splitlines()[-1].startswith(f"error: {broken}: not a whole image")
    assert os.listdir(cache) == []


@pytest.mark.slow
def test_a_command_that_fails_ends_with_its_workers(datasets, tmp_path, unreadable):
    broken, options = unreadable
    out = ["--out", str(tmp_path / "cache"), "--workers", "2"]
    done = subprocess.run(
        [sys.executable, str(TOOL), *PACK, *options, *out],
        env=environment(datasets),
        capture_output=True,
        text=True,
        timeout=300,  # the workers of one that did not end them would wait forever
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {broken}: not a whole image")


@pytest.mark.slow
def test_a_killed_packing_leaves_nothing_that_looks_whole(datasets, cache_data, tmp_path):
    """The frames are enlarged, so that packing takes a while."""
    cache = tmp_path / "cache"
    large = [*PACK[:2], "INPUT.SIZE_TRAIN", "[640,640]", "INPUT.SIZE_TEST", "[640,640]"]
    packing = subprocess.Popen(
        [sys.executable, str(TOOL), *large, "--out", str(cache), "--workers", "1"],
        env=environment(datasets),
        stderr=subprocess.PIPE,
        text=True,
    )
    partial = cache / "640x640.part"
    while not ((partial / "frames.bin").exists() and (partial / "frames.bin").stat().st_size):
        assert packing.poll() is None, packing.stderr.read()
        time.sleep(0.01)
    packing.kill()
    packing.communicate(timeout=60)  # its worker holds the pipe too: that one ends by itself
    assert packing.returncode == -signal.SIGKILL
    assert os.listdir(cache) == [partial.name]
    status, _, err = cache_data("--verify", str(cache))
    assert status == 2
    assert "no frames there" in err

    # The next packing of that size begins anew.
    partial.rename(cache / "32x16.part")
    assert cache_data(*PACK, "--out", str(cache), "--workers", "0")[0] == 0
    assert os.listdir(cache) == ["32x16"]
    assert cache_data("--verify", str(cache))[0] == 0
