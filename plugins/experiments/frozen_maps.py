"""Maps of a trunk that stays as it is, for every frame of a folder of sequences.

Whoever compares temporal parts on them pays for the trunk once, and changes nothing but the parts.

Legend: S sequences, F frames of all of them, T frames of a clip; C x h x w the maps of a stage.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from fastreid.config import CfgNode
from torch import Tensor
from tqdm import tqdm

from plugins.data.datasets.tracklet import VISIBLE
from plugins.data.frames import read_frame, resize_frame
from plugins.errors import InputError
from plugins.modeling.meta_arch import VVIBaseline

IMAGES = (".jpg", ".jpeg", ".png", ".bmp")
CHUNK = 4  # frames at a time: large maps cost more to allocate than to compute


@dataclass(frozen=True)
class Sequence:
    """Consecutive frames of one person under one camera.

    Attributes:
        person: name of the outer folder.
        camera: name of the inner one.
        frames: files, in order.
    """

    person: str
    camera: str
    frames: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class FrozenMaps:
    """Maps of all frames, of each also mirrored.

    Attributes:
        sequences: (S,).
        starts: (S,) first frame of each sequence among the F.
        maps: stage to (2, F, C, h, w) float16: as they are, and of the mirrored frames.
    """

    sequences: tuple[Sequence, ...]
    starts: tuple[int, ...]
    maps: dict[str, Tensor]

    def clip(self, sequence: int, frames: list[int], mirrored: bool) -> dict[str, Tensor]:
        """Stage to the maps (T, C, h, w), float32, of some frames of a sequence."""
        rows = torch.tensor(frames) + self.starts[sequence]
        return {name: maps[int(mirrored), rows].float() for name, maps in self.maps.items()}


def list_sequences(folder: Path) -> tuple[Sequence, ...]:
    """List the sequences of a folder ``<person>/<camera>/<frame>.jpg``, all in sorted order.

    Raises:
        InputError: there are fewer than two people, or a person was seen by fewer than two cameras.
    """
    inner = sorted(path for path in folder.glob("*/*") if path.is_dir())
    sequences = [
        Sequence(path.parent.name, path.name, tuple(frames))
        for path in inner
        if (frames := sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGES))
    ]
    cameras: dict[str, int] = {}
    for sequence in sequences:
        cameras[sequence.person] = cameras.get(sequence.person, 0) + 1
    if len(cameras) < 4:
        raise InputError(
            f"{folder}: {len(cameras)} people; expected 4 or more, as folders "
            "<person>/<camera>/<frame>.jpg"
        )
    for person, number in cameras.items():
        if number < 2:
            raise InputError(f"{folder / person}: {number} camera; expected 2 or more")
    return tuple(sequences)


def frozen_maps(
    cfg: CfgNode, sequences: tuple[Sequence, ...], stages: tuple[str, ...]
) -> FrozenMaps:
    """Run the trunk of a config over all frames, once as they are and once mirrored.

    Args:
        cfg: MODEL.BACKBONE and INPUT.SIZE_TEST are read.
        sequences: (S,), of visible light.
        stages: whose maps are kept, such as ("layer3", "layer4").
    """
    model = VVIBaseline(cfg).eval()
    files = [file for sequence in sequences for file in sequence.frames]
    kept: dict[str, list[Tensor]] = {stage: [] for stage in stages}
    with torch.inference_mode():
        for first in tqdm(range(0, len(files), CHUNK), unit="chunk", desc="frames"):
            read = [
                resize_frame(read_frame(str(file)), cfg.INPUT.SIZE_TEST)
                for file in files[first : first + CHUNK]
            ]
            images = torch.stack(read).float()
            both = torch.stack([images, images.flip(-1)])  # (2, chunk, 3, H, W)
            modalities = torch.full((both.shape[0],), VISIBLE)
            maps_of_stage = model.backbone.stage_maps(model.stem_maps(both, modalities))
            for stage in stages:
                kept[stage].append(maps_of_stage[stage].unflatten(0, both.shape[:2]).half())
    starts, position = [], 0
    for sequence in sequences:
        starts.append(position)
        position += len(sequence.frames)
    maps = {stage: torch.cat(parts, dim=1) for stage, parts in kept.items()}
    return FrozenMaps(sequences, tuple(starts), maps)
