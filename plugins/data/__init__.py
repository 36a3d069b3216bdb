"""Data sets, clips, transforms, samplers and loaders."""

from plugins.data import datasets
from plugins.data.build import build_test_loader, build_train_loader
from plugins.data.clips import ClipDataset
from plugins.data.datasets.build import build_dataset, check_root, datasets_root
from plugins.data.samplers import CrossModalIdentitySampler, IdentitySampler, ShuffleSampler

__all__ = [
    "ClipDataset",
    "CrossModalIdentitySampler",
    "IdentitySampler",
    "ShuffleSampler",
    "build_dataset",
    "build_test_loader",
    "build_train_loader",
    "check_root",
    "datasets",
    "datasets_root",
]
