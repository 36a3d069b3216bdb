"""Record one walk as a camera does: background, figure, obstacle, blur, light, noise, bytes.

Legend: T frames, H and W canvas (supersampled), C channels.
"""

import numpy as np

from plugins.synthetic.figure import walking_figure
from plugins.synthetic.identity import Identity, Palette, Surface
from plugins.synthetic.likeness import person_of
from plugins.synthetic.plan import INFRARED, VISIBLE, Walk
from plugins.synthetic.raster import Cloth, Shapes, paint
from plugins.synthetic.scene import PANORAMA_HEIGHT, Camera, draw_camera, draw_panorama
from plugins.synthetic.settings import SyntheticSettings
from plugins.synthetic.streams import Stream, between, stream
from plugins.synthetic.take import Take, draw_take

_SUPERSAMPLING = 2


def render_walk(settings: SyntheticSettings, walk: Walk) -> np.ndarray:
    """Render the frames of one walk.

    Args:
        settings: settings of the data set.
        walk: the person, the camera and the moment.

    Returns:
        (T, height, width, 3) uint8, RGB; infrared has three equal channels.
    """
    return render_person(settings, walk, person_of(settings, walk.pid))


def render_person(settings: SyntheticSettings, walk: Walk, person: Identity) -> np.ndarray:
    """Render a walk as ``render_walk``, with another person than the one that the seed draws."""
    rng = stream(settings.seed, Stream.WALK, walk.pid, walk.modality, walk.number)
    camera = draw_camera(settings.site, walk.camid, settings.difficulty)
    moment = rng
    if walk.twin:
        moment = stream(settings.seed, Stream.WALK, walk.pid, VISIBLE, walk.number)
    take = draw_take(moment, person, camera, walk, settings)
    palette = person.visible if walk.modality == VISIBLE else person.infrared
    palette = _with_obstacle(rng, palette)
    figure = walking_figure(person, take.phase, take.heading, camera.tilt)
    shapes = figure.placed(take.zoom, np.stack([take.x, take.y], axis=1))
    cloth = Cloth(person.pattern, person.period * camera.zoom, person.relief)

    canvas = _background(settings, walk, camera, take)
    paint(canvas, shapes + _obstacle(take.obstacle), palette, cloth, take.side_light)
    _smear(canvas, take.blur, reach=canvas.shape[1] // 24)
    return _develop(rng, _shrink(canvas), camera, take, walk.modality)


def _obstacle(edges: np.ndarray) -> Shapes:
    frames = len(edges)
    left, right, top = edges.T
    middle, half = (left + right) / 2, (right - left) / 2
    one = np.ones((frames, 1))
    return Shapes(
        start=np.stack([middle, top], axis=1)[:, None],
        end=np.stack([middle, np.full(frames, 1.5)], axis=1)[:, None],
        width=np.repeat(half[:, None, None], 3, axis=2),
        cap=8 * one,
        depth=10 * one,
        surface=np.full((frames, 1), int(Surface.OBSTACLE)),
        chest=0 * one,
    )


def _with_obstacle(rng: np.random.Generator, palette: Palette) -> Palette:
    base = palette.base.copy()
    tint = rng.random(3)
    base[Surface.OBSTACLE] = between(rng, 0.15, 0.7) * (0.7 + 0.3 * tint[: base.shape[1]])
    return Palette(base, palette.accent)


def _background(settings: SyntheticSettings, walk: Walk, camera: Camera, take: Take) -> np.ndarray:
    """Cut the windows of the panorama that follow the walker, (T, H, W, C) float32."""
    height, width = _SUPERSAMPLING * settings.height, _SUPERSAMPLING * settings.width
    panorama = draw_panorama(settings.site, walk.camid, walk.modality, camera.tilt, height)
    spare = PANORAMA_HEIGHT - 1
    rise = np.clip(0.5 * spare + (0.5 + 0.46 * camera.zoom - take.y), 0, spare)
    rows = (rise * height).astype(int)[:, None] + np.arange(height)
    columns = (take.window * height).astype(int)[:, None] + np.arange(width)
    return panorama[rows[:, :, None], columns[:, None, :] % panorama.shape[1]]


def _smear(canvas: np.ndarray, share: np.ndarray, reach: int) -> None:
    """Blur along the rows, in place: a box of ``2 reach + 1`` pixels is mixed in by ``share``.

    Args:
        canvas: (T, H, W, C).
        share: (T,) of the smeared picture, 0 to 1.
        reach: pixels to either side.
    """
    width, count = canvas.shape[2], 2 * reach + 1
    padded = np.pad(canvas, [(0, 0), (0, 0), (reach, reach), (0, 0)], mode="edge")
    smeared = sum(padded[:, :, k : k + width] for k in range(count)) / np.float32(count)
    canvas += share.astype(np.float32)[:, None, None, None] * (smeared - canvas)


def _shrink(canvas: np.ndarray) -> np.ndarray:
    """Average each 2 x 2 block, (T, H / 2, W / 2, C), in the same order on every machine."""
    rows = canvas[:, ::2] + canvas[:, 1::2]
    return 0.25 * (rows[:, :, ::2] + rows[:, :, 1::2])


def _develop(
    rng: np.random.Generator, pixels: np.ndarray, camera: Camera, take: Take, modality: int
) -> np.ndarray:
    """Apply light, sensor noise and tone curve: linear intensity to (T, h, w, 3) uint8."""
    frames, height, width, channels = pixels.shape
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, None, :, None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[None, :, None, None]
    exposure = take.exposure.astype(np.float32)[:, None, None, None]
    if modality == INFRARED:
        lamp = 1.15 - camera.falloff * (0.45 * x * x + 0.35 * y * y)
        light = lamp * (0.55 + 0.45 * exposure)
    else:
        warm = np.array([0.12, 0.02, -0.14], dtype=np.float32) * np.float32(take.warmth)
        light = exposure * camera.cast * (1 + warm) * (1 + 0.12 * np.float32(take.side_light) * x)
    pixels = pixels * light
    # Three uniform draws make a bell of standard deviation 0.5 without leaving exact arithmetic.
    shape = (frames, height, width, channels)
    grain = sum(rng.random(shape, dtype=np.float32) for _ in range(3)) - np.float32(1.5)
    pixels = pixels + np.float32(2 * camera.noise[modality]) * grain
    pixels = np.clip(pixels, 0, None)
    pixels = 1.5 * pixels / (1 + 0.5 * pixels)  # rolls off the highlights
    return np.broadcast_to(
        (255 * np.clip(pixels, 0, 1) + 0.5).astype(np.uint8), (frames, height, width, 3)
    )
