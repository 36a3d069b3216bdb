"""Temporal parts compared on frozen maps of real sequences, each person tested once with each seed.

The people are cut into two halves; with every seed a part is trained on one and tested on the
other, and the other way round. Each camera in turn has the queries, the others the gallery.

Legend: S sequences, N those of a test, B clips of a batch, T frames of a clip.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from fastreid.config import CfgNode
from torch import Tensor, nn

from plugins.data.datasets.tracklet import VISIBLE
from plugins.data.windows import test_windows, train_window
from plugins.evaluation import QueryResults, evaluate_ranking
from plugins.evaluation.side import Side
from plugins.experiments.frozen_maps import FrozenMaps
from plugins.modeling.meta_arch import VVIBaseline
from plugins.modeling.temporal.base import CenteredPart

ROW = "Q2G"
# Columns of QueryResults that a ranking has.
RANKED = ("average_precision", "first_rank", "last_rank", "positives")


class PartOnMaps(nn.Module):
    """The temporal part, the head and the losses of a VVIBaseline, on maps that are given.

    Args:
        cfg: MODEL but for its trunk's weights; MODEL.HEADS.NUM_CLASSES people.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        model = VVIBaseline(cfg)
        self.model = model
        self.source = model.temporal.source if centered(model) else "layer4"
        model.backbone = nn.Identity()  # its maps are there already

    def features(self, maps: dict[str, Tensor]) -> Tensor:
        """Stage to maps (B, T, C, h, w), to features (B, C + R)."""
        last, temporal = maps["layer4"], self.model.temporal
        if not centered(self.model):
            return temporal(last)
        modalities = torch.full((len(last),), VISIBLE)
        return temporal(last, modalities, maps[self.source])

    def losses(self, maps: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Training losses by name."""
        modalities = torch.full_like(targets, VISIBLE)
        outputs = self.model.outputs(self.features(maps), targets, modalities)
        return self.model.losses(outputs, targets, modalities)

    def embed(self, maps: dict[str, Tensor]) -> Tensor:
        """Test features (B, D), L2-normalized."""
        return nn.functional.normalize(self.model.heads(self.features(maps)), dim=1)


def centered(model: VVIBaseline) -> bool:
    """Whether the model's temporal part reads more than the last maps."""
    return isinstance(model.temporal, CenteredPart)


def halves(people: list[str]) -> tuple[list[str], list[str]]:
    """Every other person, in sorted order, and the others."""
    names = sorted(people)
    return names[0::2], names[1::2]


def cross_tested(cfg: CfgNode, frozen: FrozenMaps, dataset: str, seed: int) -> QueryResults:
    """Train on each half with a seed, test on the other; every person is tested once.

    Args:
        cfg: of the part.
        frozen: maps of all sequences.
        dataset: its name in the results.
        seed: of the initial weights, batches and draws.
    """
    both = halves([*{sequence.person for sequence in frozen.sequences}])
    parts = []
    for number, (train, test) in enumerate((both, both[::-1])):
        part = train_part(cfg, frozen, train, seed)
        found = search_people(part, cfg, frozen, test, dataset)
        trials = len(np.unique(found.trial))
        parts.append(replace(found, trial=found.trial + number * trials))
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("trial", "path", "person", "camera", *RANKED)
    }
    return QueryResults(dataset, ROW, True, **columns)


def train_part(cfg: CfgNode, frozen: FrozenMaps, people: list[str], seed: int) -> PartOnMaps:
    """Train a part on the sequences of some people, SOLVER.MAX_EPOCH times one batch a person.

    Args:
        cfg: SOLVER.IMS_PER_BATCH, BASE_LR, MAX_EPOCH, WARMUP_EPOCHS and STEPS, DATALOADER
            .NUM_INSTANCE, INPUT.CLIP and INPUT.FLIP are read; the optimizer is Adam.
        frozen: maps of all sequences.
        people: who trains.
        seed: of everything.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    part = PartOnMaps(with_classes(cfg, len(people))).train()
    optimizer = torch.optim.Adam(
        [p for p in part.parameters() if p.requires_grad],
        cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
    )
    own = [
        [row for row, each in enumerate(frozen.sequences) if each.person == person]
        for person in people
    ]
    for epoch in range(cfg.SOLVER.MAX_EPOCH):
        for group in optimizer.param_groups:
            group["lr"] = cfg.SOLVER.BASE_LR * rate(cfg, epoch)
        for chosen in batches(cfg, len(people), generator):
            rows = [
                (own[person][i], person)
                for person in chosen
                for i in torch.randperm(len(own[person]), generator=generator)[
                    : cfg.DATALOADER.NUM_INSTANCE
                ].tolist()
            ]
            maps = stacked([train_clip(cfg, frozen, row, generator) for row, _ in rows])
            targets = torch.tensor([person for _, person in rows])
            optimizer.zero_grad()
            cast(torch.Tensor, sum(part.losses(maps, targets).values())).backward()
            optimizer.step()
    return part


def with_classes(cfg: CfgNode, people: int) -> CfgNode:
    """A copy of a config for so many people, whose trunk starts from nothing."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.HEADS.NUM_CLASSES = people
    cfg.MODEL.BACKBONE.PRETRAIN = False
    return cfg


def rate(cfg: CfgNode, epoch: int) -> float:
    """Factor of the learning rate: linear warm-up, then a tenth from each of SOLVER.STEPS on."""
    warmup = min(1.0, (epoch + 1) / max(1, cfg.SOLVER.WARMUP_EPOCHS))
    return warmup * 0.1 ** sum(epoch >= step for step in cfg.SOLVER.STEPS)


def batches(cfg: CfgNode, people: int, generator: torch.Generator) -> Iterator[list[int]]:
    """An epoch: everybody once, a batch's worth at a time; who is left over waits."""
    size = min(people, cfg.SOLVER.IMS_PER_BATCH // cfg.DATALOADER.NUM_INSTANCE)
    order = torch.randperm(people, generator=generator).tolist()
    for first in range(0, people - size + 1, size):
        yield order[first : first + size]


def train_clip(
    cfg: CfgNode, frozen: FrozenMaps, row: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Maps of a drawn window of a sequence, mirrored or not, in the order that the config keeps."""
    clip = cfg.INPUT.CLIP
    length = len(frozen.sequences[row].frames)
    frames = train_window(length, clip.LENGTH, clip.STRIDE, generator)
    mirrored = bool(torch.rand((), generator=generator) < 0.5) and cfg.INPUT.FLIP.ENABLED
    return frozen.clip(row, ordered(cfg, frames, generator), mirrored)


def ordered(cfg: CfgNode, frames: list[int], generator: torch.Generator) -> list[int]:
    """The frames as INPUT.CLIP.ORDER has them."""
    if cfg.INPUT.CLIP.ORDER == "kept":
        return frames
    return [frames[i] for i in torch.randperm(len(frames), generator=generator).tolist()]


def stacked(clips: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stage to maps of clips (B, T, C, h, w)."""
    return {stage: torch.stack([clip[stage] for clip in clips]) for stage in clips[0]}


@torch.inference_mode()
def search_people(
    part: PartOnMaps, cfg: CfgNode, frozen: FrozenMaps, people: list[str], dataset: str
) -> QueryResults:
    """Search for some people: each camera in turn has the queries, the others the gallery.

    Args:
        part: trained.
        cfg: INPUT.CLIP and TEST.CLIPS are read.
        frozen: maps of all sequences.
        people: who is searched for.
        dataset: its name in the results.
    """
    part.eval()
    rows = [row for row, each in enumerate(frozen.sequences) if each.person in set(people)]
    features: list[torch.Tensor] = []
    for row in rows:
        clip = cfg.INPUT.CLIP
        length = len(frozen.sequences[row].frames)
        windows = test_windows(length, clip.LENGTH, clip.STRIDE, cfg.TEST.CLIPS)
        generator = torch.Generator().manual_seed(row)
        clips = [frozen.clip(row, ordered(cfg, each, generator), False) for each in windows]
        features.append(part.embed(stacked(clips)).mean(dim=0))
    sequences = [frozen.sequences[row] for row in rows]
    persons = torch.tensor([people.index(each.person) for each in sequences])
    cameras = sorted({each.camera for each in sequences})
    seen_by = torch.tensor([cameras.index(each.camera) for each in sequences])
    items = Side(torch.stack(features), persons, seen_by)
    columns: dict[str, list[np.ndarray]] = {}
    for camera in range(len(cameras)):
        query = (seen_by == camera).nonzero()[:, 0]
        gallery = (seen_by != camera).nonzero()[:, 0]
        ranking = evaluate_ranking(items.select(query), items.select(gallery))
        chosen = [sequences[index] for index in query.tolist()]
        about = {
            "trial": np.full(len(chosen), camera),
            "path": np.array([f"{each.person}/{each.camera}" for each in chosen]),
            "person": np.array([each.person for each in chosen]),
            "camera": np.array([each.camera for each in chosen]),
        }
        about |= {name: getattr(ranking, name).numpy() for name in RANKED}
        for name, values in about.items():
            columns.setdefault(name, []).append(values)
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    return QueryResults(dataset, ROW, True, **joined)
