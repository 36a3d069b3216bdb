"""Draw who a person is: body, gait, clothes, and a palette of the clothes for each modality.

Lengths are fractions of the body height, angles radians. Visible color and infrared reflectance
are drawn independently, as dye and cloth are: near infrared looks through most dyes and sees the
fiber. Both modalities share shape, cut, the geometry of a pattern, luggage and gait.
"""

import colorsys
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import numpy as np

from plugins.synthetic.streams import Stream, between, stream

Choice = TypeVar("Choice")


class Surface(IntEnum):
    """Names the rows of a palette: what a part of the picture is made of."""

    SKIN = 0
    HAIR = 1
    TOP = 2
    BOTTOM = 3
    SHOES = 4
    BAG = 5
    SHADOW = 6
    OBSTACLE = 7


@dataclass(frozen=True)
class Material:
    """A kind of cloth in near infrared.

    Attributes:
        reflectance: range of its infrared reflectance.
        print_contrast: share of a printed or woven pattern that is left in infrared, 0 to 1.
        relief: strength of folds and ribs, which shade alike in both modalities, 0 to 1.
    """

    reflectance: tuple[float, float]
    print_contrast: float
    relief: float


MATERIALS = {
    "cotton": Material((0.60, 0.85), 0.35, 0.00),
    "wool": Material((0.45, 0.70), 0.80, 0.25),
    "denim": Material((0.40, 0.60), 0.20, 0.00),
    "polyester": Material((0.55, 0.95), 0.15, 0.10),
    "down": Material((0.30, 0.80), 0.10, 0.90),
    "nylon": Material((0.18, 0.45), 0.30, 0.10),
    "leather": Material((0.08, 0.22), 0.10, 0.00),
}
TOP_MATERIALS = ("cotton", "cotton", "wool", "polyester", "down", "nylon", "leather")
BOTTOM_MATERIALS = ("cotton", "denim", "denim", "polyester", "wool", "leather")
BAG_MATERIALS = ("nylon", "leather", "cotton")

# A pattern is a sum of horizontal stripes, vertical stripes and one print on the chest.
PATTERNS = {
    "plain": (0.0, 0.0, 0.0),
    "stripes": (1.0, 0.0, 0.0),
    "pinstripes": (0.0, 1.0, 0.0),
    "checks": (0.5, 0.5, 0.0),
    "print": (0.0, 0.0, 1.0),
}
PERIODS = (0.06, 0.13)  # of stripes and folds
SKIN_TONES = ((0.93, 0.76, 0.66), (0.85, 0.65, 0.52), (0.70, 0.50, 0.37), (0.44, 0.30, 0.22))
HAIR_TONES = ((0.06, 0.05, 0.05), (0.20, 0.13, 0.09), (0.42, 0.27, 0.15), (0.72, 0.56, 0.34))


@dataclass(frozen=True)
class Body:
    """Proportions."""

    leg: float
    arm: float
    shoulder: float
    hip: float
    depth: float
    girth: float
    head: float


@dataclass(frozen=True)
class Gait:
    """How a person walks; ``frequency`` in cycles per frame, ``asymmetry`` in fractions."""

    frequency: float
    stride: float
    knee: float
    arm_swing: float
    elbow: float
    asymmetry: float
    lean: float
    sway: float


# The ranges from which body and gait are drawn, in this order, at a scale of 1.
BODY_RANGES = {
    "leg": (0.455, 0.525),
    "arm": (0.30, 0.36),
    "shoulder": (0.085, 0.135),
    "hip": (0.068, 0.105),
    "depth": (0.050, 0.085),
    "girth": (0.75, 1.35),
    "head": (0.90, 1.12),
}
GAIT_RANGES = {
    "frequency": (0.040, 0.085),
    "stride": (0.28, 0.58),
    "knee": (0.6, 1.2),
    "arm_swing": (0.10, 0.75),
    "elbow": (0.10, 0.70),
    "asymmetry": (-0.35, 0.35),
    "lean": (-0.04, 0.16),
    "sway": (0.0, 0.018),
}


@dataclass(frozen=True)
class Outfit:
    """Cut of hair and clothes, and the luggage; colors are in the palettes."""

    hair: str
    top: str
    sleeves: float
    bottom: str
    looseness: float
    carried: str


@dataclass(frozen=True)
class Palette:
    """Colors by ``Surface``, in linear units of [0, 1].

    Attributes:
        base: (S, C), C = 3 in visible light and 1 in infrared.
        accent: (S, C), the pattern's second color.
    """

    base: np.ndarray
    accent: np.ndarray


@dataclass(frozen=True)
class Identity:
    """One person.

    Attributes:
        body: proportions.
        gait: walk.
        outfit: cut.
        pattern: (S, 3) weights of horizontal stripes, vertical stripes and print.
        period: (S,) of the stripes.
        relief: (S,) strength of folds.
        visible: palette of dyes.
        infrared: palette of fibers.
    """

    body: Body
    gait: Gait
    outfit: Outfit
    pattern: np.ndarray
    period: np.ndarray
    relief: np.ndarray
    visible: Palette
    infrared: Palette


def range_scale(difficulty: float) -> float:
    """Return the scale of the ranges of body and gait, 1.5 to 0.3, if the difficulty decides it."""
    return 1.5 - 1.2 * difficulty


def draw_identity(seed: int, pid: int, difficulty: float) -> Identity:
    """Draw the person ``pid``.

    With a higher difficulty people are closer to the average and show fewer patterns in infrared.
    """
    scale = range_scale(difficulty)
    keep = 1.0 - 0.6 * difficulty
    rng = stream(seed, Stream.IDENTITY, pid)
    body = Body(**{name: between(rng, *BODY_RANGES[name], scale) for name in BODY_RANGES})
    gait = Gait(**{name: between(rng, *GAIT_RANGES[name], scale) for name in GAIT_RANGES})
    top = _pick(rng, ("shirt", "shirt", "jacket", "coat"))
    outfit = Outfit(
        hair=_pick(rng, ("short", "short", "long", "bun", "bald", "cap")),
        top=top,
        sleeves=1.0 if top != "shirt" else float(_pick(rng, (0.0, 0.45, 1.0))),
        bottom=_pick(rng, ("trousers", "trousers", "shorts", "skirt")),
        looseness=between(rng, 0.002, 0.022, keep),
        carried=_pick(rng, ("none", "none", "backpack", "handbag", "suitcase")),
    )
    pattern, period, relief, infrared = _draw_cloth(rng, difficulty)
    dyes = stream(seed, Stream.IDENTITY, pid, 1)
    return Identity(body, gait, outfit, pattern, period, relief, _draw_dyes(dyes, keep), infrared)


def _draw_cloth(
    rng: np.random.Generator, difficulty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Palette]:
    keep = 1.0 - 0.6 * difficulty
    pattern, period = np.zeros((len(Surface), 3)), np.full(len(Surface), 0.08)
    base, accent = np.full((2, len(Surface), 1), 0.5)
    relief = np.zeros(len(Surface))
    for surface, materials, patterns in (
        (Surface.TOP, TOP_MATERIALS, tuple(PATTERNS)),
        (Surface.BOTTOM, BOTTOM_MATERIALS, ("plain", "plain", "plain", "pinstripes", "checks")),
        (Surface.SHOES, ("leather", "cotton"), ("plain",)),
        (Surface.BAG, BAG_MATERIALS, ("plain", "stripes")),
    ):
        material = MATERIALS[_pick(rng, materials)]
        pattern[surface] = PATTERNS[_pick(rng, patterns)]
        period[surface] = between(rng, *PERIODS)
        relief[surface] = material.relief
        base[surface] = between(rng, *material.reflectance, keep)
        ink = 0.1 if base[surface, 0] > 0.5 else 0.9
        contrast = material.print_contrast ** (2 * difficulty)
        accent[surface] = base[surface] + contrast * (ink - base[surface])
    base[Surface.SKIN] = accent[Surface.SKIN] = 0.62
    base[Surface.HAIR] = accent[Surface.HAIR] = between(rng, 0.16, 0.36, keep)
    base[Surface.SHADOW] = accent[Surface.SHADOW] = 0.02
    return pattern, period, relief, Palette(base, accent)


def _draw_dyes(rng: np.random.Generator, keep: float) -> Palette:
    base, accent = np.zeros((2, len(Surface), 3))
    for surface in (Surface.TOP, Surface.BOTTOM, Surface.SHOES, Surface.BAG):
        base[surface] = _dye(rng, keep)
        accent[surface] = _dye(rng, keep)
        if abs(base[surface].mean() - accent[surface].mean()) < 0.25:  # a pattern must be seen
            accent[surface] = (accent[surface] + np.round(1 - base[surface].mean())) / 2
    base[Surface.SKIN] = accent[Surface.SKIN] = _pick(rng, SKIN_TONES)
    base[Surface.HAIR] = accent[Surface.HAIR] = _pick(rng, HAIR_TONES)
    base[Surface.SHADOW] = accent[Surface.SHADOW] = 0.02
    return Palette(base, accent)


def _dye(rng: np.random.Generator, keep: float) -> tuple[float, float, float]:
    """Draw a color: clothes are gray, black or white about as often as they are colored."""
    hue, neutral = rng.random(), rng.random() < 0.45
    saturation = between(rng, 0.0, 0.15) if neutral else between(rng, 0.30, 0.85, keep)
    return colorsys.hsv_to_rgb(hue, saturation, between(rng, 0.08, 0.92, keep))


def _pick(rng: np.random.Generator, choices: tuple[Choice, ...]) -> Choice:
    return choices[int(rng.integers(len(choices)))]
