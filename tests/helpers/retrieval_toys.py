"""Small searches with ties, junk and missing positives, for the tests of guides and objectives."""

import torch
from hypothesis import strategies as st

from plugins.attacks.guides import Guides

METRICS = ("cosine", "euclidean")


def search_of(seed, rows=6, items=20, length=4, people=4, cameras=3, whole=False):
    """Features, persons and cameras of two sides; with ``whole`` numbers most distances tie."""
    generator = torch.Generator().manual_seed(seed)
    of_labels = torch.Generator().manual_seed(seed + 1)
    sides = []
    for size in (rows, items):
        features = torch.randn(size, length, generator=generator)
        if whole:
            features = torch.randint(-1, 3, (size, length), generator=generator).float()
        sides.append(features)
    labels = [
        torch.randint(number, (size,), generator=of_labels)
        for number in (people, cameras)
        for size in (rows, items)
    ]
    return *sides, *labels


def guides_of(seed=0, metric="cosine", junk="camera", dtype=torch.float64, **sizes):
    """Guides in ``dtype`` and attacked features (R, D) that are not the clean ones."""
    queries, gallery, *labels = search_of(seed, **sizes)
    guides = Guides.from_features(
        queries.to(dtype), gallery.to(dtype), *labels, metric=metric, junk=junk
    )
    attacked = queries + torch.randn(queries.shape, generator=torch.Generator().manual_seed(99))
    return attacked.to(dtype), guides


seeds = st.integers(0, 2**20)
