"""Draw what a camera sees when nobody is there: where it hangs, its light, its background.

Every camera has one panorama, drawn once in both modalities; a frame is a window of it.
"""

import colorsys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from plugins.synthetic.plan import INFRARED, VISIBLE
from plugins.synthetic.streams import Stream, between, stream

PANORAMA_WIDTH = 5.0  # picture heights; the panorama is a closed ring
PANORAMA_HEIGHT = 1.25


@dataclass(frozen=True)
class Camera:
    """Where a camera hangs and how it records.

    Attributes:
        tilt: angle by which it looks down, radians.
        path: direction of the path past it, radians; 0 towards the camera, pi / 2 to the right.
        zoom: body height in the picture, picture heights.
        gain: exposure.
        cast: (3,) color of the light.
        noise: strength of the sensor's noise in each modality.
        falloff: darkness of the corners of the infrared lamp, 0 to 1.
        quality: quality of the JPEG files.
    """

    tilt: float
    path: float
    zoom: float
    gain: float
    cast: np.ndarray
    noise: tuple[float, float]
    falloff: float
    quality: int


@lru_cache(maxsize=64)
def draw_camera(seed: int, camid: int, difficulty: float) -> Camera:
    """Draw the camera ``camid`` of the site ``seed``; a higher difficulty varies cameras more."""
    rng = stream(seed, Stream.CAMERA, camid, 1)
    cast = colorsys.hsv_to_rgb(rng.random(), 0.35 * difficulty * rng.random(), 1.0)
    return Camera(
        tilt=between(rng, 0.02, 0.36, difficulty),
        path=between(rng, 0.0, np.pi),
        zoom=between(rng, 0.82, 0.92, difficulty),
        gain=between(rng, 0.55, 1.45, difficulty),
        cast=np.array(cast, dtype=np.float32),
        noise=(
            0.005 + 0.05 * difficulty * rng.random(),
            0.01 + 0.07 * difficulty * rng.random(),
        ),
        falloff=between(rng, 0.25, 0.85, difficulty),
        quality=int(rng.integers(70, 96)),
    )


@lru_cache(maxsize=24)
def draw_panorama(seed: int, camid: int, modality: int, tilt: float, height: int) -> np.ndarray:
    """Draw the scene behind the walkers.

    Args:
        seed: seed of the site.
        camid: camera.
        modality: 0 visible, 1 infrared.
        tilt: tilt of the camera; a camera that looks down sees more floor.
        height: height of a picture, canvas pixels.

    Returns:
        (1.25 height, 5 height, C) float32 linear intensity, C = 3 or 1.
    """
    layout = stream(seed, Stream.CAMERA, camid, 2)  # the same structures in both modalities
    paint = stream(seed, Stream.CAMERA, camid, 3 + modality)
    rows, columns = int(PANORAMA_HEIGHT * height), int(PANORAMA_WIDTH * height)
    y = ((np.arange(rows) + 0.5) / height).astype(np.float32)[:, None, None]
    x = ((np.arange(columns) + 0.5) / height).astype(np.float32)[None, :, None]

    skirting = float(0.86 - 1.3 * tilt + between(layout, -0.06, 0.06))  # where wall meets floor
    picture = _albedo(paint, modality) * (1.1 - 0.25 * y) * np.ones_like(x)
    for _ in range(int(layout.integers(7, 15))):
        left, wide = layout.random() * PANORAMA_WIDTH, between(layout, 0.06, 0.55)
        top, tall = between(layout, -0.3, 0.6), between(layout, 0.2, 1.2)
        frame, fill = _albedo(paint, modality), _albedo(paint, modality)
        inner = between(layout, 0.015, 0.04)
        for inset, color in ((0.0, frame), (inner, fill)):
            corner = (left + inset, top + inset)
            size = (wide - 2 * inset, tall - 2 * inset)
            picture = _box(picture, x, y, corner, size, color)
    picture *= 0.8 + 0.4 * _clouds(layout, rows, columns, 14)

    below = np.clip((y - skirting) * height, 0, 1)
    tiles = 1 / np.maximum(y - skirting + 0.35, 0.05) * between(layout, 2.0, 6.0)
    joints = np.clip(8 * np.abs(tiles - np.floor(tiles) - 0.5) - 0.4, 0, 1)
    floor = _albedo(paint, modality) * (0.82 + 0.18 * joints) * (0.75 + 0.35 * y)
    floor = floor * (0.75 + 0.5 * _clouds(layout, rows, columns, 6))
    picture = picture + below * (floor - picture)
    seam = np.clip(1 - np.abs(y - skirting) * 40, 0, 1)
    return (picture * (1 - 0.5 * seam)).astype(np.float32)


def _albedo(paint: np.random.Generator, modality: int) -> np.ndarray:
    if modality == VISIBLE:
        color = colorsys.hsv_to_rgb(
            paint.random(), 0.45 * paint.random() ** 2, between(paint, 0.15, 0.8)
        )
        return np.array(color, dtype=np.float32)
    assert modality == INFRARED, modality
    return np.array([between(paint, 0.10, 0.50)], dtype=np.float32)  # the lamp hardly reaches it


def _box(
    picture: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    corner: tuple[float, float],
    size: tuple[float, float],
    color: np.ndarray,
) -> np.ndarray:
    """Add a soft-edged rectangle to the ring of a picture; all lengths in picture heights."""
    (left, top), (wide, tall) = corner, size
    height = picture.shape[0] / PANORAMA_HEIGHT
    offset = (x - left) - np.floor((x - left) / PANORAMA_WIDTH) * PANORAMA_WIDTH
    reach_x = np.minimum(offset, wide - offset) * height + 0.5
    reach_y = np.minimum(y - top, top + tall - y) * height + 0.5
    return picture + np.clip(reach_x, 0, 1) * np.clip(reach_y, 0, 1) * (color - picture)


def _clouds(rng: np.random.Generator, rows: int, columns: int, cells: int) -> np.ndarray:
    """Draw smooth noise in [0, 1] of ``cells`` per panorama height, (rows, columns, 1) float32."""
    across = int(cells * PANORAMA_WIDTH / PANORAMA_HEIGHT)
    grid = rng.random((cells + 1, across + 1)).astype(np.float32)
    grid[:, -1] = grid[:, 0]  # closed ring
    for axis, size in ((0, rows), (1, columns)):
        steps = grid.shape[axis] - 1
        position = np.arange(size) * (steps / size)
        low = np.minimum(position.astype(int), steps - 1)
        share = (position - low).astype(np.float32)
        share = share[:, None] if axis == 0 else share[None, :]
        first, second = np.take(grid, low, axis), np.take(grid, low + 1, axis)
        grid = first + share * (second - first)
    return grid[..., None]
