"""What each query of a small set found, as an evaluation writes it."""

from dataclasses import replace

import numpy as np

from plugins.evaluation import QueryResults


def rows_of(seed: int, dataset: str = "HITSZVCM") -> list[QueryResults]:
    """Both directions of a small set: 6 people, 3 queries each, one of them without a positive."""
    generator = np.random.default_rng(seed)
    rows = []
    for direction in ("I2V", "V2I"):
        positives = np.full(18, 4)
        positives[5] = 0
        first = np.where(positives, generator.integers(1, 9, 18), 0)
        rows.append(
            QueryResults(
                dataset,
                direction,
                True,
                trial=np.zeros(18, np.int64),
                path=np.array([f"{direction}/{number}.jpg" for number in range(18)]),
                person=np.array([str(number // 3) for number in range(18)]),
                camera=np.array(["1"] * 18),
                average_precision=np.where(positives, generator.random(18), np.nan),
                first_rank=first,
                last_rank=np.where(positives, first + 5, 0),
                positives=positives,
            )
        )
    return rows


def chosen(row: QueryResults, places) -> QueryResults:
    """The row's queries at ``places``, in that order."""
    columns = {k: v[places] for k, v in vars(row).items() if isinstance(v, np.ndarray)}
    return replace(row, **columns)
