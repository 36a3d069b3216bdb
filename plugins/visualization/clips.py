"""Clips as a run's model gets them: which ones to show, and their frames.

Legend: B clips of T frames of 3 x H x W.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from plugins.data.build import build_test_clips
from plugins.data.clips import ClipDataset
from plugins.data.datasets.tracklet import as_tracklet, number_sorted
from plugins.data.loaders import collate, to_device
from plugins.errors import InputError
from plugins.evaluation import FlipAverage, Side, evaluate_ranking
from plugins.inference import Embedder
from plugins.protocol import Direction
from plugins.utils.names import natural_order
from plugins.utils.random import item_generator
from plugins.visualization.evaluated_set import EvaluatedSet
from plugins.visualization.ranked import PICKS, chosen_queries


def network_of(embedder: Embedder) -> nn.Module:
    """Return a run's network without the average over mirror images."""
    model = embedder.model
    return model.model if isinstance(model, FlipAverage) else model


def choose_clips(
    data: EvaluatedSet, name: str = "", picks: Sequence[str] = (), count: int = 2, seed: int = 0
) -> list[int]:
    """Choose rows of queries to show.

    Args:
        data: the evaluated set.
        name: of the direction that "best", "worst" or "spread" refers to; empty for the first.
        picks: one word of ``PICKS``, or names of items; empty for one person, drawn at random, in
            each modality.
        count: number of queries for a word.
        seed: of a random choice.

    Raises:
        InputError: from the names, or the direction.
    """
    if not picks:
        return draw_pair(data, seed)
    if not (len(picks) == 1 and picks[0] in PICKS):
        return [data.row_of(pick) for pick in picks]
    direction = data.direction(name)
    query, gallery = (data.side(rows) for rows in direction.trials[0])
    scores = evaluate_ranking(
        query, gallery, metric=data.metric, junk=direction.junk, cmc=direction.cmc
    )
    chosen = chosen_queries(data, direction, scores, picks, count, seed)
    return [int(direction.trials[0].query[index]) for index in chosen]


def draw_pair(data: EvaluatedSet, seed: int) -> list[int]:
    """Draw a person, if possible one of both modalities, and a query of each modality."""
    rows: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    queries = [direction.trials[0].query for direction in data.directions.values()]
    for row in np.unique(np.concatenate(queries)).tolist():
        rows[str(data.features.person[row])][str(data.modalities[row])].append(row)
    most = max(len(kinds) for kinds in rows.values())
    people = [name for name in sorted(rows, key=natural_order) if len(rows[name]) == most]
    generator = item_generator(seed)

    def draw(choices: Sequence[Any]) -> Any:
        return choices[int(torch.randint(len(choices), (1,), generator=generator))]

    kinds = rows[draw(people)]
    return [draw(kinds[kind]) for kind in sorted(kinds, reverse=True)]  # visible, infrared


def direction_of(data: EvaluatedSet, row: int) -> tuple[str, Direction]:
    """Return the first direction in which an item is a query.

    Raises:
        InputError: there is none.
    """
    for name, direction in data.directions.items():
        if row in direction.trials[0].query:
            return name, direction
    raise InputError(f"{data.features.name[row]}: no query of any direction of {data.name}")


def read_clips(embedder: Embedder, data: EvaluatedSet, rows: Sequence[int]) -> dict[str, Any]:
    """Read the first clip of each of these items, as a batch on the model's device.

    Returns:
        A batch as of the test's loader: ``images`` (B, T, 3, H, W) float32 in [0, 255], ``rows``
        of query + gallery and more.
    """
    source = data.source
    clips = build_test_clips(embedder.cfg, source.query, source.gallery, data.directions)
    return _first_clips(embedder, clips, rows)


def read_training_clips(embedder: Embedder, data: EvaluatedSet, people: int, seed: int) -> dict:
    """Read a clip of each modality of people of the training set, without augmentation.

    Returns:
        A batch as above; ``targets`` and ``camids`` are labels from 0, as in training.

    Raises:
        InputError: nobody of the training set was seen in both modalities.
    """
    items = [as_tracklet(item) for item in data.source.train]
    rows: dict[Any, dict[int, int]] = defaultdict(dict)
    for row, item in enumerate(items):
        rows[item.pid].setdefault(item.modality, row)
    both = [kinds for kinds in rows.values() if len(kinds) > 1]
    if not both:
        raise InputError(f"{data.name}: nobody of its training set was seen in both modalities")
    drawn = torch.randperm(len(both), generator=item_generator(seed))[:people].tolist()
    chosen = [row for index in drawn for _, row in sorted(both[index].items())]
    batch = _first_clips(embedder, build_test_clips(embedder.cfg, items, [], {}), chosen)
    for key, labels in (
        ("targets", number_sorted(item.pid for item in items)),
        ("camids", number_sorted(item.camid for item in items)),
    ):
        field = "pid" if key == "targets" else "camid"
        numbers = [labels[getattr(items[row], field)] for row in chosen]
        batch[key] = torch.tensor(numbers, device=batch["images"].device)
    return batch


def _first_clips(embedder: Embedder, clips: ClipDataset, rows: Sequence[int]) -> dict[str, Any]:
    first: dict[int, int] = {}
    for index, row in enumerate(clips.clip_rows):
        first.setdefault(row, index)
    samples = [clips[first[row]] for row in rows]
    return to_device(collate(samples), next(embedder.model.parameters()).device)


def frames_of(batch: dict) -> Tensor:
    """Return the frames of a batch (B, T, 3, H, W) on the CPU; T is 1 for images."""
    images: Tensor = batch["images"].detach().cpu()
    return images if images.dim() == 5 else images.unsqueeze(1)


def first_match(data: EvaluatedSet, row: int, direction: Direction, feature: Tensor) -> int:
    """Return the rank, from 1, of the first match of an item with this feature (D,); 0 for none."""
    query = data.side(np.array([row])).with_features(feature[None])
    gallery: Side = data.side(direction.trials[0].gallery)
    try:
        scores = evaluate_ranking(
            query, gallery, metric=data.metric, junk=direction.junk, cmc=direction.cmc
        )
    except InputError:  # no item of its person that it sees
        return 0
    return int(scores.first_rank[0])
