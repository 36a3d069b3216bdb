"""Grad-CAM: the places of a clip's frames that make it look like another clip; by captum.

Legend: B clips of T frames, N = B * T; C channels of the last stage's h x w maps, D feature length.

Selvaraju et al., ICCV 2017: the channels' mean gradients weigh the maps. The class score of the
paper becomes, for retrieval, the cosine of the clip's feature and that of the clip found first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plugins.attacks import attacking
from plugins.errors import InputError
from plugins.inference import Embedder
from plugins.modeling.backbones.trunks import STAGES, kind_of
from plugins.visualization.clips import (
    choose_clips,
    direction_of,
    frames_of,
    network_of,
    read_clips,
)
from plugins.visualization.evaluated_set import EvaluatedSet
from plugins.visualization.picture import Picture, counted
from plugins.visualization.ranked import JUNK, RIGHT, list_with_junk
from plugins.visualization.strips import HEAT, Block, Line, draw_blocks, gray, pixels

CAPTUM = "gradcam needs captum: pip install captum"


class Nearest(NamedTuple):
    """The clip that is found first.

    Attributes:
        row: of query + gallery.
        same: whether it shows the query's person.
        distance: from the query.
    """

    row: int
    same: bool
    distance: float


def last_stage(network: nn.Module) -> nn.Module:
    """Return the part of a network whose output is the maps of its last stage.

    Raises:
        InputError: it has none that is known.
    """
    backbone = getattr(network, "backbone", None)
    trunk = getattr(backbone, "trunk", backbone)
    kind = kind_of(trunk) if isinstance(trunk, nn.Module) else None
    if kind is None:
        raise InputError(
            f"gradcam: the backbone {type(trunk).__name__} has no stages that are known; expected "
            "a ResNet, a MobileNetV2 or an OSNet"
        )
    assert isinstance(trunk, nn.Module)
    return list(kind.blocks(trunk, STAGES[-1]))[-1]


def require_captum() -> None:
    """Raise InputError where captum is missing."""
    try:
        import captum.attr  # noqa: F401
    except ImportError:
        raise InputError(CAPTUM) from None


def grad_cam(network: nn.Module, batch: dict, reference: Tensor) -> Tensor:
    """Compute the Grad-CAM of the cosine of each clip's feature and a reference.

    Args:
        network: gives features (B, D) of a batch; it is used in evaluation, and left as it is.
        batch: B clips of T frames, or B images.
        reference: (B, D).

    Returns:
        (B, T, h, w), 0 or more: ReLU of the maps weighed by the mean gradients of their channels.

    Raises:
        InputError: captum is missing, or the network has no stages that are known.
    """
    require_captum()
    from captum.attr import LayerGradCam

    layer = last_stage(network)
    reference = F.normalize(reference.to(batch["images"]), dim=1)

    def cosine(images: Tensor) -> Tensor:
        # A copy, because fastreid's own models normalize images in place.
        features = network({**batch, "images": images.clone()}).float()
        return (F.normalize(features, dim=1) * reference).sum(dim=1)

    images = batch["images"].detach().clone().requires_grad_()
    with attacking(network), torch.enable_grad():
        maps = LayerGradCam(cosine, layer).attribute(images, relu_attributions=True)
    found: Tensor = maps.detach().cpu().squeeze(1).unflatten(0, (len(images), -1))
    return found


def nearest_clip(data: EvaluatedSet, row: int) -> Nearest:
    """Return the first item, without junk, of the gallery of an item's direction.

    Raises:
        InputError: the item is no query, or sees no gallery.
    """
    _, direction = direction_of(data, row)
    columns = direction.trials[0].gallery
    query, gallery = data.side(np.array([row])), data.side(columns)
    (entries,) = list_with_junk(query, gallery, 1, data.metric, direction.junk)
    for entry in entries:
        if entry.kind != JUNK:
            return Nearest(int(columns[entry.column]), entry.kind == RIGHT, entry.distance)
    raise InputError(f"{data.features.name[row]}: all of its gallery is junk")


def picture_of_gradcam(
    embedder: Embedder,
    data: EvaluatedSet,
    name: str = "",
    *,
    picks: Sequence[str] = (),
    count: int = 2,
    seed: int = 0,
) -> Picture:
    """Draw Grad-CAM over the frames of clips; arguments are those of ``choose_clips``.

    Raises:
        InputError: captum is missing, the network's stages are not known, or from the clips.
    """
    require_captum()
    network = network_of(embedder)
    rows = choose_clips(data, name, picks, count, seed)
    found = [nearest_clip(data, row) for row in rows]
    blocks = []
    for row, nearest in zip(rows, found, strict=True):
        batch = read_clips(embedder, data, [row])
        reference = torch.from_numpy(data.features.features[[nearest.row]])
        maps = grad_cam(network, batch, reference)[0]
        shares = (maps / maps.max().clamp_min(1e-12)).numpy()
        images = pixels(frames_of(batch)[0])
        other = pixels(frames_of(read_clips(embedder, data, [nearest.row]))[0])
        item = data.items[nearest.row]
        who = "the same person" if nearest.same else f"another person, {item.pid}"
        blocks.append(
            Block(
                f"{data.features.name[row]}\nfound first: {who}, distance {nearest.distance:.3f}",
                [
                    Line("frames,\n" + str(data.modalities[row]), images),
                    Line("Grad-CAM", list(shares), HEAT, 0, 1, "share of most", below=gray(images)),
                    Line("clip that\nis found\nfirst", other),
                ],
            )
        )
    size = " x ".join(map(str, shares.shape[-2:]))
    queries = counted(len(rows), "query", "queries")
    caption = (
        f"{queries} of {data.name}. Bright cells of the last maps ({size}) make the "
        "query's feature more like that of the clip which the model finds first; the brightest "
        "cell of a clip is 1. Dark cells do not, or make it less alike."
    )
    return Picture(
        "Grad-CAM: the places that make a query similar to what it finds",
        caption,
        draw_blocks(blocks),
    )
