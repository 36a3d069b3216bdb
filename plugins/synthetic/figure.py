"""Draw a walking person as limbs in the picture plane: body, clothes, hair, luggage.

Legend: T frames. Body frame as in ``pose``.
"""

import numpy as np

from plugins.synthetic.identity import Identity, Surface
from plugins.synthetic.pose import SIDES, pose
from plugins.synthetic.raster import Shapes

_UP, _BACK = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0])
_ON_GROUND = np.array([1.0, 0.0, 1.0])  # times a point: its foot on the ground


def project(
    point: np.ndarray, heading: np.ndarray, tilt: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Project points of the body frame into the picture plane of a camera.

    Args:
        point: (..., 3), body frame.
        heading: (...) of the walker, radians; 0 towards the camera, pi / 2 to the right.
        tilt: tilt of the camera, radians.

    Returns:
        (...) each, body heights from the origin: to the right, down, and nearer to the camera.
    """
    sin, cos = np.sin(heading), np.cos(heading)
    left, up, forward = (point[..., axis] for axis in range(3))
    depth = forward * cos - left * sin
    return left * cos + forward * sin, depth * np.sin(tilt) - up * np.cos(tilt), depth


class _Sketch:
    """Collects limbs of the body frame and projects them."""

    def __init__(self, heading: np.ndarray, tilt: float):
        self.heading, self.tilt = heading, tilt
        self.sin, self.cos = np.sin(heading), np.cos(heading)
        self.parts: list[tuple[np.ndarray, ...]] = []

    def limb(
        self,
        surface: Surface,
        start: np.ndarray,
        end: np.ndarray,
        width: tuple[float, ...],
        depth: tuple[float, ...] | None = None,
        cap: float = 1.0,
        nearer: float = 0.0,
        chest: bool = False,
    ) -> None:
        """Add one limb.

        Args:
            surface: row of the palette.
            start: (T, 3) of its axis, body frame.
            end: (T, 3) of its axis, body frame.
            width: three half widths to the left and right, at start, middle, end.
            depth: three half widths to the front and back; ``width`` if not given.
            cap: 1 for round ends, larger for flatter ones.
            nearer: moves the limb towards the camera in the painting order.
            chest: whether the limb carries the print, on its front.
        """
        (x0, y0, z0), (x1, y1, z1) = (
            project(point, self.heading, self.tilt) for point in (start, end)
        )
        across, deep = np.array(width)[:, None], np.array(depth or width)[:, None]
        half = np.sqrt((across * self.cos) ** 2 + (deep * self.sin) ** 2).T
        frames = len(half)
        self.parts.append(
            (
                np.stack([x0, y0], axis=1),
                np.stack([x1, y1], axis=1),
                half,
                np.full(frames, cap),
                (z0 + z1) / 2 + nearer,
                np.full(frames, int(surface)),
                np.clip(self.cos, 0, 1) if chest else np.zeros(frames),
            )
        )

    def shapes(self) -> Shapes:
        # Rounded: the last bit of a platform's sine must not reach a pixel.
        return Shapes(
            *(np.stack(column, axis=1).round(6) for column in zip(*self.parts, strict=True))
        )


def walking_figure(person: Identity, phase: np.ndarray, heading: np.ndarray, tilt: float) -> Shapes:
    """Sketch a person's limbs: feet at the origin, lengths in body heights, x right and y down.

    Args:
        person: the person to draw.
        phase: (T,) of the gait, radians.
        heading: (T,) radians; 0 walks towards the camera, pi / 2 to the right.
        tilt: tilt of the camera, radians; positive if it looks down.
    """
    joints = pose(person, phase)
    sketch = _Sketch(heading, tilt)
    _cast_shadow(sketch, joints)
    for side in SIDES:
        _draw_leg(sketch, person, joints, side)
        _draw_arm(sketch, person, joints, side)
    _draw_torso(sketch, person, joints)
    _draw_head(sketch, person, joints)
    _draw_luggage(sketch, person, joints)
    return sketch.shapes()


def _cast_shadow(sketch: _Sketch, joints: dict[str, np.ndarray]) -> None:
    left, right = (joints[f"{side} ankle"] * _ON_GROUND for side in SIDES)
    sketch.limb(Surface.SHADOW, left, right, (0.05, 0.07, 0.05), nearer=-10.0)


def _draw_leg(sketch: _Sketch, person: Identity, joints: dict[str, np.ndarray], side: str) -> None:
    hip, knee, ankle, toe = (joints[f"{side} {name}"] for name in ("hip", "knee", "ankle", "toe"))
    girth, cut, loose = person.body.girth, person.outfit.bottom, person.outfit.looseness
    for start, end, widths, covered in (
        (hip, knee, (0.052, 0.048, 0.036), cut != "skirt"),
        (knee, ankle, (0.034, 0.035, 0.021), cut == "trousers"),
    ):
        surface, slack = (Surface.BOTTOM, loose) if covered else (Surface.SKIN, 0.0)
        half = tuple(width * girth + slack for width in widths)
        sketch.limb(surface, start, end, half, nearer=0.0 if covered else -0.01)
    heel = ankle - np.array([0.0, 0.012, 0.012])
    sketch.limb(Surface.SHOES, heel, toe, (0.024, 0.025, 0.018), nearer=0.012)


def _draw_arm(sketch: _Sketch, person: Identity, joints: dict[str, np.ndarray], side: str) -> None:
    shoulder, elbow, wrist = (joints[f"{side} {name}"] for name in ("shoulder", "elbow", "wrist"))
    girth = 0.5 + 0.5 * person.body.girth
    slack = 0.4 * person.outfit.looseness + (0.006 if person.outfit.top != "shirt" else 0.0)
    sleeve = person.outfit.sleeves
    sketch.limb(
        Surface.SKIN, shoulder, elbow, (0.030 * girth, 0.027 * girth, 0.023 * girth), nearer=0.05
    )
    sketch.limb(Surface.SKIN, elbow, wrist, (0.023 * girth, 0.021 * girth, 0.016), nearer=0.055)
    hand = wrist + 0.25 * (wrist - elbow)
    sketch.limb(Surface.SKIN, wrist, hand, (0.016, 0.020, 0.016), nearer=0.056)
    wide, narrow = 0.034 * girth + slack, 0.026 * girth + slack
    if sleeve == 1.0:
        sketch.limb(Surface.TOP, shoulder, elbow, (0.85 * wide, wide, narrow), nearer=0.058)
        sketch.limb(Surface.TOP, elbow, wrist, (narrow, narrow, 0.8 * narrow), nearer=0.06)
    elif sleeve > 0.0:
        cuff = shoulder + sleeve * (elbow - shoulder)
        sketch.limb(Surface.TOP, shoulder, cuff, (0.85 * wide, wide, wide), nearer=0.058)


def _draw_torso(sketch: _Sketch, person: Identity, joints: dict[str, np.ndarray]) -> None:
    body, outfit = person.body, person.outfit
    pelvis, chest, neck = joints["pelvis"], joints["chest"], joints["neck"]
    slack = outfit.looseness + (0.010 if outfit.top != "shirt" else 0.0)
    waist = 0.5 * (body.shoulder + body.hip) * (0.72 + 0.14 * body.girth)

    sketch.limb(
        Surface.BOTTOM,
        pelvis + 0.045 * _UP,
        pelvis - 0.03 * _UP,
        (waist, body.hip + 0.3 * slack, 0.9 * body.hip),
        (0.9 * body.depth, body.depth, 0.8 * body.depth),
        nearer=0.09,
    )
    hem = 0.0 if outfit.top == "shirt" else -0.02
    wide = tuple(half + slack for half in (body.shoulder - 0.006, waist, body.hip))
    deep = tuple(body.depth * part + slack for part in (0.72, np.sqrt(body.girth), 0.95))
    armpit = chest - 0.055 * _UP
    sketch.limb(Surface.TOP, armpit, pelvis + hem * _UP, wide, deep, 6.0, nearer=0.13, chest=True)
    sloped = (0.030, 0.62 * body.shoulder + slack, wide[0])
    sketch.limb(Surface.TOP, neck - 0.012 * _UP, armpit, sloped, (0.03, 0.05, deep[0]), 6.0, 0.131)
    knees = 0.5 * (joints["left knee"] + joints["right knee"])
    if outfit.top == "coat":
        tail = tuple(half + slack for half in (body.hip, body.hip + 0.008, body.hip + 0.022))
        flared = tuple(half - body.hip + body.depth for half in tail)
        end = pelvis + 0.8 * (knees - pelvis)
        sketch.limb(Surface.TOP, pelvis, end, tail, flared, 6.0, nearer=0.145)
    if outfit.bottom == "skirt":
        stride = np.abs(joints["left knee"] - joints["right knee"]).max()
        flare = (body.hip, body.hip + 0.02, body.hip + 0.045)
        roomy = (0.0, 0.02 + 0.08 * stride, 0.03 + 0.15 * stride)
        deep = tuple(body.depth + room for room in roomy)
        end = pelvis + 0.9 * (knees - pelvis)
        sketch.limb(Surface.BOTTOM, pelvis, end, flare, deep, 6.0, nearer=0.085)
    sketch.limb(
        Surface.SKIN, neck + 0.03 * _UP, neck - 0.05 * _UP, (0.026, 0.026, 0.03), nearer=0.05
    )


def _draw_head(sketch: _Sketch, person: Identity, joints: dict[str, np.ndarray]) -> None:
    size, hair = person.body.head, person.outfit.hair
    chin, crown = joints["chin"], joints["crown"]
    face = (0.026 * size, 0.043 * size, 0.032 * size)
    profile = (0.030 * size, 0.048 * size, 0.036 * size)
    sketch.limb(Surface.SKIN, chin, crown - 0.012 * _UP, face, profile, nearer=0.10)
    if hair == "bald":
        return
    surface = Surface.BAG if hair == "cap" else Surface.HAIR
    top = crown + 0.004 * _UP + 0.006 * _BACK
    shell = (0.040 * size, 0.044 * size, 0.036 * size)
    shell_profile = (0.046 * size, 0.050 * size, 0.040 * size)
    brow = crown - 0.024 * size * _UP + 0.008 * _BACK
    sketch.limb(surface, top, brow, shell, shell_profile, cap=1.6, nearer=0.135)
    if hair == "cap":
        brim = brow + np.array([0.0, -0.012, 0.075])
        sketch.limb(surface, brow, brim, (0.036 * size, 0.034, 0.028), (0.012,) * 3, nearer=0.12)
        return
    length = {"short": 0.055, "bun": 0.05, "long": 0.16}[hair] * size
    nape = crown + 0.034 * size * _BACK
    end = nape - length * _UP
    fall = (0.034 * size, 0.043 * size, (0.052 if hair == "long" else 0.030) * size)
    fall_profile = (0.026 * size, 0.028 * size, 0.020 * size)
    sketch.limb(Surface.HAIR, nape, end, fall, fall_profile, nearer=0.115)
    if hair == "bun":
        knot = crown + 0.055 * _BACK - 0.01 * _UP
        sketch.limb(Surface.HAIR, knot, knot + 0.02 * _UP, (0.024, 0.028, 0.024), nearer=0.12)


def _draw_luggage(sketch: _Sketch, person: Identity, joints: dict[str, np.ndarray]) -> None:
    carried, body = person.outfit.carried, person.body
    if carried == "backpack":
        behind = (body.depth + 0.055) * _BACK
        top, bottom = joints["chest"] - 0.02 * _UP, joints["chest"] - 0.21 * _UP
        wide = (0.070, 0.088, 0.084)
        sketch.limb(
            Surface.BAG, top + behind, bottom + behind, wide, (0.04, 0.058, 0.06), 2.0, nearer=0.11
        )
        front = (body.depth + 0.012) * -_BACK
        for side in (1.0, -1.0):
            strap = np.array([side * 0.62 * body.shoulder, 0.0, 0.0])
            start = joints["chest"] + strap - 0.005 * _UP + front
            sketch.limb(Surface.BAG, start, start - 0.16 * _UP, (0.012,) * 3, nearer=0.09)
    elif carried == "handbag":
        hand = joints["right wrist"] - 0.03 * _UP
        top, bottom = hand - 0.06 * _UP, hand - 0.16 * _UP
        sketch.limb(Surface.BAG, hand, top, (0.008,) * 3, (0.035,) * 3, nearer=0.07)
        sketch.limb(
            Surface.BAG, top, bottom, (0.022, 0.026, 0.03), (0.06, 0.075, 0.085), 5.0, nearer=0.075
        )
    elif carried == "suitcase":
        hand = joints["left wrist"]
        middle = hand * _ON_GROUND + 0.16 * _BACK + np.array([0.03, 0.0, 0.0])
        top, bottom = middle + 0.26 * _UP, middle + 0.045 * _UP
        wide, deep = (0.085, 0.088, 0.085), (0.058, 0.06, 0.058)
        sketch.limb(Surface.SHOES, hand, top, (0.007,) * 3, nearer=0.02)
        sketch.limb(Surface.BAG, top, bottom, wide, deep, cap=6.0, nearer=0.04)
