"""Draw what happens while a person walks past a camera: the nuisances, before any painting.

Legend: T frames.
"""

from dataclasses import dataclass

import numpy as np

from plugins.synthetic.identity import Identity
from plugins.synthetic.plan import Walk
from plugins.synthetic.pose import walking_speed
from plugins.synthetic.scene import PANORAMA_WIDTH, Camera
from plugins.synthetic.settings import SyntheticSettings
from plugins.synthetic.streams import between

_PACE = 0.055  # picture heights a frame, if the gait does not decide it


@dataclass(frozen=True)
class Take:
    """Nuisances of one walk; (T,) unless another shape is given.

    Attributes:
        phase: phase of the gait, radians.
        heading: heading of the walker, radians.
        x: position of the feet, picture units.
        y: position of the feet, picture units.
        zoom: body height, picture heights.
        window: left edge of the background's window, picture heights.
        blur: share of the smeared picture, 0 to 1.
        exposure: factor on all intensities.
        obstacle: (T, 3) left and right edge and top of an object in front, picture units.
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
    course = camera.path + np.pi * walk.reverse + between(rng, -0.9, 0.9, 0.2 + 0.6 * hard)
    heading = course + between(rng, -0.02, 0.02) * t
    phase = 2 * np.pi * (rng.random() + person.gait.frequency * t)
    pace = _PACE
    if settings.gait_speed:
        pace = round(walking_speed(person) * camera.zoom, 9)  # as the sines below are rounded
    speed = pace * np.sin(heading).round(6)  # the background slides past a walker seen from aside

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
    """Draw an object between camera and walker that slides through the picture, (T, 3)."""
    passes = rng.random() < 0.15 + 0.7 * hard
    wide = between(rng, 0.05, 0.10 + 0.35 * hard) * width * 2
    top = -1.0 if rng.random() < 0.6 else between(rng, 0.35, 0.7)
    meeting, speed = rng.random() * frames, between(rng, 0.06, 0.14) * width * 2
    speed = -speed if rng.random() < 0.5 else speed
    x = width / 2 + speed * (np.arange(frames) - meeting)
    x = x if passes else np.full(frames, -9.0)
    return np.stack([x - wide / 2, x + wide / 2, np.full(frames, top)], axis=1)
