"""The scores of a data set from its features: in two processes, beside the same in one.

Legend: Q queries, G gallery items, D feature length.
"""

import socket
import weakref
from collections.abc import Sequence
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from fastreid.utils import comm

from plugins.benchmarks.comparison import Comparison, Work
from plugins.benchmarks.search import drawn_sides
from plugins.benchmarks.settings import Settings
from plugins.config import setup_cfg
from plugins.engine.launch import launch
from plugins.errors import RunFailed
from plugins.evaluation import VVIEvaluator
from plugins.protocol import Direction, Trial

BATCH = 64  # items of a batch of features


class DrawnSet:
    """A data set of which the evaluator needs no more than sizes and directions."""

    def __init__(self, queries: int, gallery: int) -> None:
        self.query: Sequence[Any] = range(queries)
        self.gallery: Sequence[Any] = range(gallery)

    def directions(self) -> dict[str, Direction]:
        """Let the queries search the gallery."""
        rows = np.arange(len(self.query) + len(self.gallery))
        return {"I2V": Direction((Trial(rows[: len(self.query)], rows[len(self.query) :]),))}


class Evaluation:
    """Processes that keep drawn features, each its share, and evaluate them when they are asked."""

    def __init__(self, processes: int, size: tuple[int, int, int, int]) -> None:
        """Start the processes; ``size`` is Q, G, D and the number of people."""
        context = get_context("spawn")
        self.here, there = context.Pipe()
        starter = context.Process(target=start_ranks, args=(processes, size, there))
        starter.start()
        there.close()
        weakref.finalize(self, self.here.close)  # the ranks end when nobody can ask any more
        self()

    def __call__(self) -> dict[str, float]:
        """Evaluate once: gather the features, rank, and score."""
        try:
            self.here.send(None)
            scores: dict[str, float] = self.here.recv()
        except (EOFError, ConnectionError):
            raise RunFailed("the processes that evaluate ended without an answer") from None
        return scores


def start_ranks(processes: int, size: tuple[int, int, int, int], asked: Connection) -> None:
    """Start the ranks of an evaluation, and wait for their end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    launch(evaluate_when_asked, processes, 1, 0, address, "cpu", (size, asked))


def evaluate_when_asked(size: tuple[int, int, int, int], asked: Connection) -> None:
    """Evaluate in all ranks whenever the main one is asked, until nobody can ask any more."""
    torch.set_num_threads(1)
    queries, gallery, length, people = size
    sides = drawn_sides(queries, gallery, length, people, seed=0)
    features, pids, camids = (
        torch.cat([getattr(side, name) for side in sides])
        for name in ("features", "pids", "camids")
    )
    rows = torch.arange(len(pids)).tensor_split(comm.get_world_size())[comm.get_rank()]
    evaluator = VVIEvaluator(setup_cfg("", ["MODEL.DEVICE", "cpu"]), DrawnSet(queries, gallery))
    while is_asked(asked):
        evaluator.reset()
        for part in rows.split(BATCH):
            batch = {"targets": pids[part], "camids": camids[part], "rows": part}
            evaluator.process(batch, features[part])
        results = evaluator.evaluate()
        if comm.is_main_process():
            asked.send(dict(results["I2V"]))


def is_asked(asked: Connection) -> bool:
    """Tell all ranks whether the main one is asked again."""
    word: list[Any] = [True]
    if comm.is_main_process():
        try:
            asked.recv()
        except EOFError:
            word = [False]
    if comm.get_world_size() > 1:
        dist.broadcast_object_list(word)
    return bool(word[0])


def evaluation(settings: Settings) -> list[Comparison]:
    """List the comparisons of evaluations, in seconds of the wall's clock."""
    sizes = [(5159, 5643, 2048, 427), (3368, 15913, 2048, 750)]
    if settings.quick:
        sizes = [(1200, 2500, 2048, 200)]
    if settings.tiny:
        sizes = [(40, 60, 16, 7)]
    return [
        Comparison(
            f"evaluation of {q}x{g}x{d}, 2 processes",
            partial(evaluation_work, (q, g, d, people)),
            target=1.7,
            note="one process; each has one thread",
            rounds=settings.rounds,
        )
        for q, g, d, people in sizes
    ]


def evaluation_work(size: tuple[int, int, int, int]) -> Work:
    """Start both; ``size`` is Q, G, D and the number of people."""
    return Work(Evaluation(2, size), Evaluation(1, size), check_equal)


def check_equal(ours: dict[str, float], theirs: dict[str, float]) -> None:
    """Compare scores, which are equal to the bit."""
    assert ours == theirs, f"{ours} and {theirs}"
