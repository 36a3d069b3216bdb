"""Averages over the clips of an item."""

import pytest
import torch

from plugins.evaluation import views


@pytest.mark.parametrize("part", [1, 3, 4096])
def test_clips_are_averaged_item_by_item(monkeypatch, part):
    monkeypatch.setattr(views, "CLIPS", part)
    rows = torch.tensor([2, 0, 1, 1, 0, 1])
    features = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))

    means = views.average_clips(features, rows, rows.bincount())

    assert means.dtype == torch.float32
    for row, mean in enumerate(means):
        torch.testing.assert_close(mean, features[rows == row].mean(dim=0))


@pytest.mark.slow
def test_a_single_clip_keeps_its_feature_to_the_last_bit():
    features = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 1e3
    rows = torch.randperm(50, generator=torch.Generator().manual_seed(1))

    assert torch.equal(views.average_clips(features, rows, torch.ones(50))[rows], features)
