"""Corrupt the frames of a test as a worse camera would: by noise, blur, JPEG or gamma.

A frame is corrupted at the input's size, after the resize, so that a packed frame and a decoded one
become the same. A seed and the frame's path below the folder of all data sets decide every random
number, so a frame looks the same in every clip, process and run.

The kinds except gamma, and the five severities, are those of ImageNet-C (Hendrycks and Dietterich,
ICLR 2019). The strengths are not: those of ImageNet-C are for pictures of 224 pixels and hardly
leave a walker in frames of 64 x 32. Noise is half as strong here, JPEG files have a higher quality,
and blur is a share of the frame's height.

Legend: H x W size of the input.
"""

import io
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import torch
from fastreid.config import CfgNode
from PIL import Image
from torch import Tensor

from plugins.config import check_value
from plugins.data.datasets.tracklet import MODALITIES, as_tracklet
from plugins.data.frame_cache.store import frame_name
from plugins.data.frames import resize_frame
from plugins.errors import InputError
from plugins.protocol import Direction
from plugins.utils.digests import digest
from plugins.utils.images import decode_image

SEVERITIES = (1, 2, 3, 4, 5)
# By kind, the strength at each severity.
STRENGTHS = {
    "noise": (0.04, 0.06, 0.09, 0.13, 0.19),  # standard deviation, shares of 255
    "blur": (0.008, 0.012, 0.018, 0.024, 0.032),  # sigma, shares of the height
    "jpeg": (50, 35, 25, 15, 10),  # quality
    "gamma": (1.25, 1.5, 1.75, 2.25, 3.0),  # exponent; above 1 darkens
}


def add_noise(frame: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise; a gray frame gets the same in all channels and stays gray.

    Args:
        frame: (H, W, 3) uint8.
        deviation: standard deviation, shares of 255.
        rng: generator of this frame alone.
    """
    gray = (frame == frame[..., :1]).all()
    noise = rng.standard_normal((*frame.shape[:2], 1 if gray else 3))
    return _whole(frame + 255 * deviation * noise)


def blur(frame: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Blur (H, W, 3) uint8 with a Gaussian; ``sigma`` is a share of H."""
    from scipy import ndimage  # not above: 0.4 s of every start

    reach = sigma * frame.shape[0]
    return _whole(ndimage.gaussian_filter(frame.astype(float), (reach, reach, 0), mode="nearest"))


def compress(frame: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Write (H, W, 3) uint8 as a JPEG file and read it again."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=int(quality))
    return np.array(decode_image(file, "a JPEG file"))


def bend(frame: np.ndarray, gamma: float, rng: np.random.Generator) -> np.ndarray:
    """Apply the tone curve x ^ gamma to (H, W, 3) uint8."""
    return _whole(255 * (frame / 255) ** gamma)


KINDS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "noise": add_noise,
    "blur": blur,
    "jpeg": compress,
    "gamma": bend,
}


class Corruption:
    """Corrupts the frames of some items.

    Attributes:
        rows: rows of the items to corrupt.
    """

    def __init__(
        self,
        kind: str,
        severity: int,
        rows: Collection[int],
        size: Sequence[int],
        root: str,
        seed: int = 0,
    ) -> None:
        """Take what decides every pixel.

        Args:
            kind: name in KINDS.
            severity: 1 to 5.
            rows: rows of the items to corrupt.
            size: H, W.
            root: folder of all data sets.
            seed: seed of the random draws.
        """
        self.rows = rows
        self._corrupt, self._strength = KINDS[kind], STRENGTHS[kind][severity - 1]
        self._size, self._root, self._seed = tuple(size), root, seed

    def __call__(self, path: str, frame: Tensor) -> Tensor:
        """Corrupt one frame.

        Args:
            path: the frame's file.
            frame: (3, h, w) uint8, of any size.

        Returns:
            (3, H, W) uint8.
        """
        pixels = resize_frame(frame, self._size).permute(1, 2, 0).contiguous().numpy()
        name = np.frombuffer(frame_name(path, self._root), np.uint8)
        rng = np.random.default_rng([self._seed, digest(name)])
        return torch.from_numpy(self._corrupt(pixels, self._strength, rng)).permute(2, 0, 1)


def build_corruption(
    cfg: CfgNode,
    items: Sequence[tuple],
    queries: int,
    directions: Mapping[str, Direction],
    root: str,
) -> Corruption | None:
    """Build the corruption that TEST.CORRUPTION asks for; None for none.

    Args:
        cfg: the config.
        items: query + gallery of a data set.
        queries: number of queries among them.
        directions: directions of the data set.
        root: folder of all data sets.

    Raises:
        InputError: TEST.CORRUPTION has an unknown value; query and gallery change places in a
            direction, so that ITEMS does not say which of them is corrupted; or attacked images
            are to be saved, which would be corrupted again when they are read.
    """
    keys = cfg.TEST.CORRUPTION
    check_corruption(cfg)
    if keys.KIND == "none":
        return None
    every = range(len(items))
    rows: Collection[int] = every
    if keys.ITEMS in MODALITIES:
        modality = MODALITIES.index(keys.ITEMS)
        rows = {row for row in every if as_tracklet(items[row]).modality == modality}
    elif keys.ITEMS != "all":
        for name, direction in directions.items():
            for query, gallery in direction.trials:
                if (query >= queries).any() or (gallery < queries).any():
                    raise InputError(
                        f"TEST.CORRUPTION.ITEMS: '{keys.ITEMS}', but in {name} query and gallery "
                        f"of the data set change places; expected all, {' or '.join(MODALITIES)}"
                    )
        rows = every[:queries] if keys.ITEMS == "query" else every[queries:]
    return Corruption(keys.KIND, keys.SEVERITY, rows, cfg.INPUT.SIZE_TEST, root, keys.SEED)


def check_corruption(cfg: CfgNode) -> None:
    """Raise InputError if TEST.CORRUPTION has an unknown value, or attacked images are saved."""
    keys = cfg.TEST.CORRUPTION
    for name, value in keys.items():
        check_value(f"TEST.CORRUPTION.{name}", value)
    if keys.KIND != "none" and cfg.ATTACK.SAVE_IMAGES:
        raise InputError(
            f"ATTACK.SAVE_IMAGES: {cfg.ATTACK.SAVE_IMAGES}; expected none with TEST.CORRUPTION, as "
            "saved images would be corrupted again when they are read"
        )


def _whole(values: np.ndarray) -> np.ndarray:
    """Round to gray levels."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
