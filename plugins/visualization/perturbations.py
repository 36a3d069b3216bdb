"""Perturbations of clips: an adversarial one of pixels, and the self-attack's Delta of maps.

Legend: B clips of T frames of 3 x H x W, N = B * T; C channels of h x w stem maps.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from plugins.attacks import Adapter, Attack, Guides, build_attack
from plugins.inference import Embedder
from plugins.modeling.freeze import frozen_statistics
from plugins.modeling.meta_arch import SADSTRM
from plugins.modeling.self_attack import CleanPass
from plugins.modeling.self_attack.budget import TINY
from plugins.visualization.clips import (
    choose_clips,
    direction_of,
    first_match,
    frames_of,
    network_of,
    read_clips,
    read_training_clips,
)
from plugins.visualization.evaluated_set import EvaluatedSet
from plugins.visualization.picture import Picture, counted
from plugins.visualization.strips import HEAT, Block, Line, draw_blocks, pixels, signed_line

ATTACK = "FNA"
TRAINING_PEOPLE = 4  # of the batch that the self-attack sees
DELTA_CLIPS = 2  # of them that are shown


class Attacked(NamedTuple):
    """A clip before and after an attack.

    Attributes:
        row: of query + gallery.
        direction: name of the direction in which it is a query.
        clean: (T, 3, H, W), gray levels.
        attacked: (T, 3, H, W), likewise.
        before: rank of the first match of the clean clip, from 1; 0 for none.
        after: that of the attacked clip.
    """

    row: int
    direction: str
    clean: Tensor
    attacked: Tensor
    before: int
    after: int


def attack_clip(embedder: Embedder, data: EvaluatedSet, row: int, attack: Attack) -> Attacked:
    """Attack the first clip of an item that is a query, guided by the gallery of its direction.

    Raises:
        InputError: the item is no query, or from the attack.
    """
    name, direction = direction_of(data, row)
    batch = read_clips(embedder, data, [row])
    adapter = Adapter(network_of(embedder), embedder.cfg)
    query, gallery = (data.side(rows) for rows in (np.array([row]), direction.trials[0].gallery))
    with torch.no_grad():
        clean = adapter(batch).cpu()
    guides = Guides.from_features(
        clean,
        gallery.features,
        query.pids,
        gallery.pids,
        query.camids,
        gallery.camids,
        metric=data.metric,
        junk=direction.junk,
    )
    result = attack.run(adapter, batch, guides)
    with torch.no_grad():
        attacked = adapter(result.batch).cpu()
    return Attacked(
        row,
        name,
        frames_of(batch)[0],
        frames_of(result.batch)[0],
        first_match(data, row, direction, clean[0]),
        first_match(data, row, direction, attacked[0]),
    )


def signed_change(clean: Tensor, attacked: Tensor) -> np.ndarray:
    """Return the change of each pixel (T, H, W), the mean of its three channels, gray levels."""
    return (attacked - clean).mean(dim=1).numpy()


class Delta(NamedTuple):
    """What the self-attack does to a batch of the training set.

    Attributes:
        frames: (B, T, 3, H, W), gray levels.
        maps: F0, (B, T, C, h, w).
        delta: likewise.
    """

    frames: Tensor
    maps: Tensor
    delta: Tensor


def self_attack_delta(network: SADSTRM, batch: dict, seed: int = 0) -> Delta:
    """Attack the maps of a batch as training does; network and random state stay as they are.

    Args:
        network: in any mode; inside it is in training mode and records no statistics.
        batch: of the training set, with ``targets`` and ``camids`` from 0.
        seed: of what the attack draws.
    """
    modes = [(part, part.training) for part in network.modules()]
    with torch.random.fork_rng(), frozen_statistics(network), torch.no_grad():
        torch.manual_seed(seed)
        network.train()
        try:
            images, labels = network.unpack_labeled(batch)
            below = network.run_below(images, labels)
            guides = network.labeled_outputs(below.maps, labels, below)["features"]
            losses = partial(network.attacker_losses, guides=guides, labels=labels, below=below)
            attacked = network.attack.attacked_maps(CleanPass(below.maps, labels), losses)
        finally:
            for part, training in modes:
                part.training = training
    maps, delta = (
        each.detach().float().cpu().unflatten(0, (-1, labels.frames))
        for each in (below.maps, attacked - below.maps)
    )
    return Delta(frames_of(batch), maps, delta)


def delta_share(maps: Tensor, delta: Tensor) -> np.ndarray:
    """Compare the change of each cell with the size of its frame's map.

    Args:
        maps: F0, (T, C, h, w).
        delta: likewise.

    Returns:
        (T, h, w): |Delta| over the channels of a cell, divided by the root mean square over the
        cells of |F0|. The root mean square over the cells of the result is |Delta| / |F0|.
    """
    sizes = torch.linalg.vector_norm(maps, dim=1)
    typical = sizes.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(TINY)
    return (torch.linalg.vector_norm(delta, dim=1) / typical).numpy()


def picture_of_attack(
    embedder: Embedder,
    data: EvaluatedSet,
    name: str = "",
    *,
    picks: Sequence[str] = (),
    count: int = 2,
    attack: str = ATTACK,
    seed: int = 0,
) -> Picture:
    """Draw an adversarial perturbation of clips, and the self-attack's Delta if the run has one.

    Args:
        embedder: the run's model.
        data: the evaluated set.
        name: of the direction, see :func:`choose_clips`.
        picks: likewise.
        count: likewise.
        attack: registered name; its budget and steps are those of the run's ATTACK section.
        seed: of random choices.

    Raises:
        InputError: there is no such attack, or from the clips.
    """
    chosen = build_attack(attack, embedder.cfg, "--attack")
    rows = choose_clips(data, name, picks, count, seed)
    blocks = [
        attacked_block(data, attack_clip(embedder, data, row, chosen), chosen) for row in rows
    ]
    eps, norm = chosen.threat.eps, {"linf": "L-inf", "l2": "L2"}[chosen.threat.norm]
    queries = counted(len(rows), "query", "queries")
    caption = (
        f"{queries} of {data.name}, attacked by {attack} within {norm} {eps:g} gray "
        "levels of 255. The change of a pixel is the mean of its three channels; orange is "
        "brighter, purple darker, white unchanged. "
    )
    network = network_of(embedder)
    if isinstance(network, SADSTRM) and len(data.source.train):
        batch = read_training_clips(embedder, data, TRAINING_PEOPLE, seed)
        found = self_attack_delta(network, batch, seed)
        kind = embedder.cfg.MODEL.SELF_ATTACK.KIND
        blocks += delta_blocks(found, network.attack.after, kind)
        caption += (
            f"Below, the self-attack ({kind}) on {DELTA_CLIPS} of {len(found.frames)} clips of "
            f"{TRAINING_PEOPLE} training people: the size of Delta in each cell of the maps, as a "
            "share of the typical size of the frame's cells."
        )
    else:
        caption += "The run's training has no self-attack."
    title = f"Perturbations: {attack} on pixels" + (
        ", self-attack on maps" * (len(blocks) > len(rows))
    )
    return Picture(title, caption.strip(), draw_blocks(blocks))


def attacked_block(data: EvaluatedSet, found: Attacked, attack: Attack) -> Block:
    """Draw frames, signed change and attacked frames of a clip."""
    change = signed_change(found.clean, found.attacked)
    reach = attack.threat.eps if attack.threat.norm == "linf" else float(np.abs(change).max())
    ranks = [f"rank {rank}" if rank else "no match" for rank in (found.before, found.after)]
    return Block(
        f"{data.features.name[found.row]}\n"
        f"{found.direction}: first match at {ranks[0]}, attacked: {ranks[1]}",
        [
            Line("frames,\n" + data.modalities[found.row], pixels(found.clean)),
            signed_line("perturbation", list(change), max(reach, TINY), "gray levels"),
            Line("attacked\nframes", pixels(found.attacked)),
        ],
    )


def delta_blocks(found: Delta, after: str, kind: str) -> list[Block]:
    """Draw frames and Delta of the first clips of a batch."""
    shares = [100 * delta_share(*pair) for pair in zip(found.maps, found.delta, strict=True)]
    shown = range(min(DELTA_CLIPS, len(shares)))
    high = max(max(float(shares[index].max()) for index in shown), TINY)
    return [
        Block(
            f"training clip {index + 1}: self-attack after {after}",
            [
                Line("frames", pixels(found.frames[index])),
                Line(f"Delta\n({kind})", list(shares[index]), HEAT, 0, high, "% of a cell"),
            ],
        )
        for index in shown
    ]
