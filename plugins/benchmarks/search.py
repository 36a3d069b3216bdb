"""Ranking and re-ranking, beside fastreid's own: compiled Cython, and faiss on the CPU.

Legend: Q queries, G gallery items, D feature length.
"""

import contextlib
import io
import warnings
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.utils.compute_dist import build_dist, compute_jaccard_distance

from plugins.benchmarks.comparison import Comparison, Work
from plugins.benchmarks.fastreid_cython import compiled_ranking
from plugins.benchmarks.settings import Settings
from plugins.evaluation import RankingResult, Side, evaluate_ranking
from plugins.evaluation.rerank import rerank
from plugins.evaluation.scores import RANKS

NOISE = 3.0  # standard deviation of a feature about that of its person, which has 1
CAMERAS = 6
PARAMETERS = {"k1": 20, "k2": 6, "lambda_value": 0.3}
ROWS = 10_000  # drawn at a time
# Two re-ranked distances are equal within CLOSE, but for a share of FLIPPED, see check_distances.
CLOSE, FLIPPED = 1e-5, 1e-3


def ranking(settings: Settings) -> list[Comparison]:
    """List the comparisons of ranking."""
    sizes = [(5159, 5643, 2048, 427), (3368, 15913, 2048, 750)]
    large = (500, 200_000, 512, 5000)
    if settings.quick:
        sizes, large = [(1200, 2500, 2048, 200)], (100, 40_000, 512, 1000)
    if settings.tiny:
        sizes, large = [(40, 60, 16, 7)], (10, 80, 8, 7)
    found = [
        Comparison(
            f"ranking {q}x{g}x{d}, {threads} thread{'s' * (threads > 1)}",
            partial(ranking_work, q, g, d, people),
            target=1.05 if threads == 1 else 1.5,
            memory_target=4.0 if threads == 1 and settings.whole else 0,
            note="fastreid, Cython compiled",
            threads=threads,
            rounds=settings.rounds,
        )
        for q, g, d, people in sizes
        for threads in settings.threads
    ]
    q, g, d, people = large
    found.append(
        Comparison(
            f"ranking {q}x{g}x{d}, 1 thread",
            partial(ranking_work, q, g, d, people),
            target=2.0,
            memory_target=0 if settings.tiny else 8.0,
            note="fastreid, Cython compiled",
            rounds=settings.rounds,
        )
    )
    return found


def reranking(settings: Settings) -> list[Comparison]:
    """List the comparisons of re-ranking."""
    sizes = [(2000, 4000), (5000, 5000)]
    if settings.quick:
        sizes = [(500, 1000)]
    if settings.tiny:
        sizes = [(30, 50)]
    return [
        Comparison(
            f"re-ranking {q}+{g}x2048, 1 thread",
            partial(rerank_work, q, g, 2048),
            target=1.6,
            memory_target=4.0 if settings.whole else 0,
            note="fastreid on faiss, CPU",
            rounds=max(1, settings.rounds - 1),
        )
        for q, g in sizes
    ]


def ranking_work(
    num_queries: int, num_gallery: int, length: int, people: int, seed: int = 0
) -> Work:
    """Prepare to rank drawn features by the cosine distance, under the rules of Market-1501."""
    query, gallery = drawn_sides(num_queries, num_gallery, length, people, seed)
    compiled = compiled_ranking()
    labels = [x.numpy() for x in (query.pids, gallery.pids, query.camids, gallery.camids)]

    def theirs() -> tuple[np.ndarray, list[float], list[float]]:
        near = build_dist(query.features, gallery.features, "cosine")
        with contextlib.redirect_stdout(io.StringIO()):  # tells of short galleries
            return compiled.evaluate_cy(near, *labels, max(RANKS))

    return Work(lambda: evaluate_ranking(query, gallery, max_rank=max(RANKS)), theirs, check_scores)


def check_scores(ours: RankingResult, theirs: tuple) -> None:
    """Compare scores; near ties, which float32 orders at random, may move them by 1e-4."""
    cmc, precisions, penalties = theirs
    assert ours.num_valid == len(precisions), f"{ours.num_valid} and {len(precisions)} queries"
    pairs = {
        "Rank-1": (float(ours.cmc[0]), float(cmc[0])),
        "mAP": (ours.mean_average_precision, float(np.mean(precisions))),
        "mINP": (ours.mean_inverse_negative_penalty, float(np.mean(penalties))),
    }
    for name, (first, second) in pairs.items():
        assert abs(first - second) < 1e-4, f"{name} {first} and {second}"


def rerank_work(num_queries: int, num_gallery: int, length: int, seed: int = 0) -> Work:
    """Prepare to re-rank drawn features by the cosine distance."""
    people = max(2, (num_queries + num_gallery) // 12)
    query, gallery = drawn_sides(num_queries, num_gallery, length, people, seed)

    def theirs() -> np.ndarray:
        near = build_dist(query.features, gallery.features, "cosine")
        unit = torch.cat([F.normalize(side.features, dim=1) for side in (query, gallery)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jaccard = compute_jaccard_distance(
                unit, k1=PARAMETERS["k1"], k2=PARAMETERS["k2"], search_option=3
            )
        share = PARAMETERS["lambda_value"]
        return jaccard[:num_queries, num_queries:] * (1 - share) + near * share

    def ours() -> torch.Tensor:
        return rerank(query.features, gallery.features, **PARAMETERS)  # type: ignore[arg-type]

    return Work(ours, theirs, check_distances)


def check_distances(ours: torch.Tensor, theirs: np.ndarray) -> None:
    """Compare distances; float32 gives some items another neighbor where two are equally near."""
    differences = np.abs(ours.numpy() - theirs)
    share, largest = float((differences > CLOSE).mean()), float(differences.max())
    assert share < FLIPPED, f"{share:.2%} of the distances differ, the largest by {largest:.2g}"


def drawn_sides(
    num_queries: int, num_gallery: int, length: int, people: int, seed: int
) -> tuple[Side, Side]:
    """Draw features about the mean of each person, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(people, length, generator=generator)

    def side(number: int) -> Side:
        pids = torch.randint(people, (number,), generator=generator)
        camids = torch.randint(CAMERAS, (number,), generator=generator)
        features = torch.empty(number, length)
        for rows in torch.arange(number).split(ROWS):
            noise = torch.randn(len(rows), length, generator=generator)
            features[rows] = means[pids[rows]] + NOISE * noise
        return Side(features, pids, camids)

    return side(num_queries), side(num_gallery)
