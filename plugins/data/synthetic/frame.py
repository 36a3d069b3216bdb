"""One walk as a camera records it: background, figure, obstacle, blur, light, noise, bytes.

Legend: T frames, H and W canvas (supersampled), C channels.
"""

from dataclasses import dataclass

import numpy as np

from plugins.data.synthetic.figure import walking_figure
from plugins.data.synthetic.identity import Identity, Palette, Surface, draw_identity
from plugins.data.synthetic.plan import INFRARED, VISIBLE, Walk
from plugins.data.synthetic.raster import Cloth, Shapes, paint
from plugins.data.synthetic.scene import (
    PANORAMA_HEIGHT,
    PANORAMA_WIDTH,
    Camera,
    draw_camera,
    draw_panorama,
)
from plugins.data.synthetic.settings import SyntheticSettings
from plugins.data.synthetic.streams import Stream, between, stream

_SUPERSAMPLING = 2


@dataclass(frozen=True)
class Take:
    """What happens during one walk; (T,) where not said otherwise.

    Attributes:
        phase: of the gait, radians.
        heading: of the walker, radians.
        x: of the feet, picture units.
        y: of the feet, picture units.
        zoom: body height, picture heights.
        window: left edge of the background's window, picture heights.
        blur: share of the smeared picture, 0 to 1.
        exposure: factor on all intensities.
        obstacle: (T, 3) left and right edge and top of something in front, picture units.
        side_light: scalar, -1 from the left to 1 from the right.
        warmth: scalar, of the visible light, -1 blue to 1 yellow.
    """

    phase: np.ndarray
    heading: np.ndarray
    x: np.ndarray
    y: np.ndarray
    zoom: np.ndarray
    window: np.ndarray
    blur: np.ndarray
    exposure: np.ndarray
    obstacle: np.ndarray
    side_light: float
    warmth: float


def render_walk(settings: SyntheticSettings, walk: Walk) -> np.ndarray:
    """Frames of one walk.

    Args:
        settings: of the data set.
        walk: who, where, when.

    Returns:
        (T, height, width, 3) uint8, RGB; infrared has three equal channels.
    """
    person = draw_identity(settings.seed, walk.pid, settings.difficulty)
    return render_person(settings, walk, person)


def render_person(settings: SyntheticSettings, walk: Walk, person: Identity) -> np.ndarray:
    """``render_walk`` with a person of one's own making instead of the one that the seed draws."""
    rng = stream(settings.seed, Stream.WALK, walk.pid, walk.modality, walk.number)
    camera = draw_camera(settings.seed, walk.camid, settings.difficulty)
    take = draw_take(rng, person, camera, walk, settings)
    palette = person.visible if walk.modality == VISIBLE else person.infrared
    palette = _with_obstacle(rng, palette)

    scale = _SUPERSAMPLING * settings.height
    canvas = _background(settings, walk, camera, take)
    zoom = take.zoom[:, None, None]
    figure = walking_figure(person, take.phase, take.heading, camera.tilt)
    feet = np.stack([take.x, take.y], axis=1)[:, None]
    shapes = Shapes(
        figure.start * zoom + feet,
        figure.end * zoom + feet,
        figure.width * zoom,
        figure.cap,
        figure.depth,
        figure.surface,
        figure.chest,
    )
    cloth = Cloth(person.pattern, person.period * camera.zoom, person.relief)
    paint(canvas, shapes + _obstacle(take.obstacle), palette, cloth, take.side_light)
    canvas = _smear(canvas, take.blur, scale // 24)
    pixels = _shrink(canvas)
    return _develop(rng, pixels, camera, take, walk.modality)


def draw_take(
    rng: np.random.Generator,
    person: Identity,
    camera: Camera,
    walk: Walk,
    settings: SyntheticSettings,
) -> Take:
    """Draw what happens during a walk; all nuisances grow with the difficulty."""
    hard, frames = settings.difficulty, walk.frames
    t = np.arange(frames)
    middle = 0.5 * settings.width / settings.height
    heading = camera.path + np.pi * walk.reverse + between(rng, -0.9, 0.9, 0.2 + 0.6 * hard)
    heading = heading + between(rng, -0.02, 0.02) * t
    phase = 2 * np.pi * (rng.random() + person.gait.frequency * t)
    speed = 0.055 * np.sin(heading).round(6)  # the background slides past a walker seen from aside

    def wander(size: float) -> np.ndarray:  # jitter of the person detector's box
        fast, steps = rng.random(frames) - 0.5, rng.random(frames + 4) - 0.5
        slow = sum(steps[k : k + frames] for k in range(5)) / 5
        return size * hard * (0.6 * fast + 1.4 * slow)

    zoom = (camera.zoom + between(rng, -0.05, 0.05, hard)) * (1 + wander(0.10))
    blurred = (rng.random(frames) < 0.4 * hard) * rng.random(frames)
    flicker = 1 + 0.25 * hard * (rng.random(frames) - 0.5)
    hour = 2 * np.pi * walk.light
    brightness = 1 + 0.6 * hard * np.sin(hour).round(6)
    return Take(
        phase=phase,
        heading=heading,
        x=middle + wander(0.10),
        y=0.5 + 0.46 * zoom + wander(0.05),
        zoom=zoom,
        window=rng.random() * PANORAMA_WIDTH + np.cumsum(speed),
        blur=0.15 * hard + 0.85 * blurred,
        exposure=camera.gain * brightness * flicker,
        obstacle=_draw_obstacle(rng, frames, 2 * middle, hard),
        side_light=float(np.cos(hour).round(6)),
        warmth=float(np.sin(2 * hour).round(6)) * hard,
    )


def _draw_obstacle(rng: np.random.Generator, frames: int, width: float, hard: float) -> np.ndarray:
    """Something between camera and walker that slides through the picture; (T, 3)."""
    passes = rng.random() < 0.15 + 0.7 * hard
    wide = between(rng, 0.05, 0.10 + 0.35 * hard) * width * 2
    top = -1.0 if rng.random() < 0.6 else between(rng, 0.35, 0.7)
    meeting, speed = rng.random() * frames, between(rng, 0.06, 0.14) * width * 2
    speed = -speed if rng.random() < 0.5 else speed
    x = width / 2 + speed * (np.arange(frames) - meeting)
    x = x if passes else np.full(frames, -9.0)
    return np.stack([x - wide / 2, x + wide / 2, np.full(frames, top)], axis=1)


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
    """Windows of the camera's panorama that follow the walker; (T, H, W, C) float32."""
    height, width = _SUPERSAMPLING * settings.height, _SUPERSAMPLING * settings.width
    panorama = draw_panorama(settings.seed, walk.camid, walk.modality, camera.tilt, height)
    spare = PANORAMA_HEIGHT - 1
    rise = np.clip(0.5 * spare + (0.5 + 0.46 * camera.zoom - take.y), 0, spare)
    rows = (rise * height).astype(int)[:, None] + np.arange(height)
    columns = (take.window * height).astype(int)[:, None] + np.arange(width)
    return panorama[rows[:, :, None], columns[:, None, :] % panorama.shape[1]]


def _smear(canvas: np.ndarray, share: np.ndarray, reach: int) -> np.ndarray:
    """Motion blur along the rows: a box of ``2 reach + 1`` pixels, mixed in by ``share`` (T,)."""
    frames = np.flatnonzero(share)
    if not len(frames) or not reach:
        return canvas
    sharp = canvas[frames]
    edges = [(0, 0), (0, 0), (reach, reach), (0, 0)]
    padded = np.pad(sharp, edges, mode="edge")
    width = canvas.shape[2]
    smeared = sum(padded[:, :, k : k + width] for k in range(2 * reach + 1)) / (2 * reach + 1)
    mix = share[frames].astype(np.float32)[:, None, None, None]
    canvas[frames] = sharp + mix * (smeared - sharp)
    return canvas


def _shrink(canvas: np.ndarray) -> np.ndarray:
    """Mean of each 2 x 2 block, (T, H / 2, W / 2, C); added in one order on every machine."""
    rows = canvas[:, ::2] + canvas[:, 1::2]
    return 0.25 * (rows[:, :, ::2] + rows[:, :, 1::2])


def _develop(
    rng: np.random.Generator, pixels: np.ndarray, camera: Camera, take: Take, modality: int
) -> np.ndarray:
    """Light, sensor noise and tone curve: linear intensity to (T, h, w, 3) uint8."""
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
