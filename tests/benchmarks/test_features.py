"""The bare loop computes the features of the Embedder, and the rows tell frames per second."""

import sys

import pytest
import torch

from plugins.benchmarks import Settings, benchmark
from plugins.benchmarks.comparison import Comparison, Work, measure
from plugins.benchmarks.features import check_features, features_work

pytestmark = pytest.mark.slow

TINY = Settings(tiny=True, threads=(1,))


def test_both_ways_give_the_same_features():
    work = features_work("VVI/synthetic/baseline.yml", 9)  # a batch and one clip more
    ours, theirs = work.ours(), work.theirs()
    assert ours.shape == (9, 512)
    torch.testing.assert_close(ours.norm(dim=1), torch.ones(9))
    work.check(ours, theirs)
    assert not torch.equal(ours[0], ours[1])
    with pytest.raises(AssertionError, match="features are up to"):
        check_features(ours, -theirs)
    with pytest.raises(AssertionError, match=r"\(9, 512\) and \(8, 512\)"):
        check_features(ours, theirs[:8])


def test_a_row_says_what_is_compared():
    (row,) = benchmark(["features"], TINY)["rows"]
    assert row["name"] == "features of 18 JPEG frames, ResNet-18 at 64x32"
    assert row["unit"] == "CPU s"
    assert row["note"].startswith("Pillow and torchvision per frame, then the same network; ")


def test_frames_per_second_are_those_of_the_fastest_runs(monkeypatch):
    clock = iter([0, 4, 10, 15, 20, 22, 30, 40])
    monkeypatch.setitem(
        sys.modules["plugins.benchmarks.comparison"].CLOCKS,
        "cpu",
        lambda: next(clock),
    )
    work = Work(lambda: 1, lambda: 1, lambda *_: None)
    comparison = Comparison(
        "frames", lambda: work, target=1, note="a loop", rounds=2, clock="cpu", frames=100
    )
    (row,) = measure(comparison)
    assert row["note"] == "a loop; 50 and 20 frames / CPU s"
