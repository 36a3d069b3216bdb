"""Features of imagined people, made to order."""

import numpy as np

from plugins.inference import Features


def lot(number, seed, prefix, *, levels=1000, features=None, people=6, weights="w"):
    """``number`` items; few ``levels`` of an entry make ties, and equal features."""
    generator = np.random.default_rng(seed)
    if features is None:
        features = generator.integers(1, levels + 1, size=(number, 8)).astype(np.float32)
        features = features.astype(np.float32)
        if levels > 10:  # length 1, as a network gives them
            features /= np.linalg.norm(features, axis=1, keepdims=True)
    return Features(
        features=features,
        name=np.array([f"{prefix}{row}" for row in range(number)]),
        path=np.array([f"/data/{prefix}{row}.jpg" for row in range(number)]),
        person=np.array([f"P{p}" for p in generator.integers(people, size=number)]),
        camera=np.array([str(c) for c in generator.integers(1, 4, size=number)]),
        modality=np.where(generator.random(number) < 0.5, "infrared", "visible"),
        about={"network": {"weights": weights, "metric": "cosine"}},
    )
