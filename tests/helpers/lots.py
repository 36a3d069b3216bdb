"""Features of imagined people, made to order."""

import numpy as np

from plugins.inference import Features


def lot(number, seed, prefix, *, pool=1000, features=None, people=6, weights="w"):
    """``number`` items; a ``pool`` of few different features makes ties."""
    generator = np.random.default_rng(seed)
    if features is None:
        different = generator.normal(size=(pool, 8)).astype(np.float32)
        different /= np.linalg.norm(different, axis=1, keepdims=True)
        features = different[generator.integers(pool, size=number)]
    return Features(
        features=features,
        name=np.array([f"{prefix}{row}" for row in range(number)]),
        path=np.array([f"/data/{prefix}{row}.jpg" for row in range(number)]),
        person=np.array([f"P{p}" for p in generator.integers(people, size=number)]),
        camera=np.array([str(c) for c in generator.integers(1, 4, size=number)]),
        modality=np.where(generator.random(number) < 0.5, "infrared", "visible"),
        about={"network": {"weights": weights, "metric": "cosine"}},
    )
