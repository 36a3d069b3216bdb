"""Paint anti-aliased limbs over a stack of frames, by distance to a tapered line.

Legend: T frames, N shapes, H and W canvas, C channels. Picture units: the canvas is 1 high and W/H
wide, x to the right, y down. Only sums, products, quotients and square roots touch the pixels:
IEEE arithmetic rounds those alike on every machine.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from plugins.synthetic.identity import Palette, Surface

_SHADOW_OPACITY = 0.45
_BLOCK = 8  # frames painted together, so that they fit into the cache


@dataclass(frozen=True)
class Shapes:
    """Tapered limbs in picture units.

    Attributes:
        start: (T, N, 2) of the axis.
        end: (T, N, 2) of the axis.
        width: (T, N, 3) half widths at start, middle and end; a parabola runs through them.
        cap: (T, N) 1 for a round end, larger for a flatter one.
        depth: (T, N) larger values are nearer to the camera.
        surface: (T, N) row of the palette.
        chest: (T, N) share of a print that faces the camera, 0 to 1.
    """

    start: np.ndarray
    end: np.ndarray
    width: np.ndarray
    cap: np.ndarray
    depth: np.ndarray
    surface: np.ndarray
    chest: np.ndarray

    def __add__(self, other: "Shapes") -> "Shapes":
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Shapes(*(np.concatenate(pair, axis=1) for pair in pairs))

    def placed(self, zoom: np.ndarray, origin: np.ndarray) -> "Shapes":
        """Enlarge the shapes by ``zoom`` (T,) and move their origin to ``origin`` (T, 2)."""
        zoom, origin = zoom[:, None, None], origin[:, None]
        start, end = self.start * zoom + origin, self.end * zoom + origin
        return replace(self, start=start, end=end, width=self.width * zoom)

    def far_to_near(self) -> "Shapes":
        """Sort the shapes into painting order, frame by frame."""
        order = np.argsort(self.depth, axis=1, kind="stable")

        def sort(values: np.ndarray) -> np.ndarray:
            index = order[..., None] if values.ndim == 3 else order
            return np.take_along_axis(values, index, axis=1)

        return Shapes(*(sort(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True)
class Cloth:
    """Look of the surfaces besides their colors; see ``Identity``.

    Attributes:
        pattern: (S, 3) weights of horizontal stripes, vertical stripes and print.
        period: (S,) of stripes and folds, picture units.
        relief: (S,) strength of folds.
    """

    pattern: np.ndarray
    period: np.ndarray
    relief: np.ndarray


def paint(
    canvas: np.ndarray, shapes: Shapes, palette: Palette, cloth: Cloth, side_light: float
) -> None:
    """Paint shapes over the canvas in place, far to near.

    Args:
        canvas: (T, H, W, C) float32, linear intensity.
        shapes: N per frame.
        palette: palette of C channels.
        cloth: patterns of its surfaces.
        side_light: -1 from the left to 1 from the right.
    """
    shapes = shapes.far_to_near()
    for start in range(0, len(canvas), _BLOCK):
        block = slice(start, start + _BLOCK)
        part = Shapes(*(getattr(shapes, field.name)[block] for field in fields(shapes)))
        for n in range(part.depth.shape[1]):
            _paint_one(canvas[block], part, n, palette, cloth, side_light)


def _paint_one(
    canvas: np.ndarray, shapes: Shapes, n: int, palette: Palette, cloth: Cloth, side_light: float
) -> None:
    height = canvas.shape[1]
    start, end, half = shapes.start[:, n], shapes.end[:, n], shapes.width[:, n]
    rows, columns = _window(start, end, half, canvas)
    if not len(rows) or not len(columns):
        return

    axis = end - start
    length = np.sqrt((axis**2).sum(axis=1))
    axis = np.where(length[:, None] < 1e-4, (0.0, 1.0), axis / np.maximum(length, 1e-4)[:, None])
    ux, uy, length = _columns(axis[:, 0], axis[:, 1], np.maximum(length, 1e-4))
    x = ((np.array(columns) + 0.5) / height).astype(np.float32) - _column(start[:, 0])
    y = ((np.array(rows) + 0.5) / height).astype(np.float32)[:, None] - _column(start[:, 1])
    along = x * ux + y * uy  # (T, h, w)
    across = x * uy - y * ux  # to the right of a limb that points down
    inside = np.clip(along, 0, length)
    t = inside / length
    w0, w1, w2 = _columns(*half.T)
    reach = w0 + t * (4 * w1 - 3 * w0 - w2) + t * t * (2 * w0 - 4 * w1 + 2 * w2)
    beyond = (along - inside) * _column(shapes.cap[:, n])
    coverage = (reach - np.sqrt(across * across + beyond * beyond)) * height + 0.5
    coverage = np.clip(coverage, 0, 1)

    surface = shapes.surface[:, n]
    side = np.clip(across / reach, -1, 1)
    shade = 1.06 - 0.30 * side * side + (0.22 * side_light) * side * uy
    relief = cloth.relief[surface]
    if relief.any():
        folds = _wave(along / _column(0.6 * cloth.period[surface]))
        shade = shade + _column(0.22 * relief) * folds
    shadow = surface == Surface.SHADOW
    coverage = coverage * _column(np.where(shadow, _SHADOW_OPACITY, 1.0))

    base = palette.base[surface].astype(np.float32)[:, None, None]  # (T, 1, 1, C)
    color = base
    pattern = cloth.pattern[surface]
    pattern[:, 2] *= shapes.chest[:, n]
    if pattern.any():
        mix = _pattern(along, across, t, side, pattern, cloth.period[surface])
        accent = palette.accent[surface].astype(np.float32)[:, None, None]
        color = base + mix[..., None] * (accent - base)
    patch = canvas[:, rows.start : rows.stop, columns.start : columns.stop]
    patch += coverage[..., None] * (color * shade[..., None] - patch)


def _window(
    start: np.ndarray, end: np.ndarray, half: np.ndarray, canvas: np.ndarray
) -> tuple[range, range]:
    """Find the rows and columns that hold the limb in any frame."""
    height, width = canvas.shape[1:3]
    margin = half.max() + 1.5 / height
    low = np.floor((np.minimum(start, end).min(axis=0) - margin) * height)
    high = np.ceil((np.maximum(start, end).max(axis=0) + margin) * height)
    left, top = np.maximum(low, 0).astype(int).tolist()
    right, bottom = np.minimum(high, (width, height)).astype(int).tolist()
    return range(top, bottom), range(left, right)


def _pattern(
    along: np.ndarray,
    across: np.ndarray,
    t: np.ndarray,
    side: np.ndarray,
    weight: np.ndarray,
    period: np.ndarray,
) -> np.ndarray:
    """Compute the share of the accent color, (T, h, w) in [0, 1]."""
    horizontal, vertical, chest = weight.T
    mix = np.zeros_like(along)
    if horizontal.any():
        mix += _column(horizontal) * (0.5 + 0.5 * _wave(along / _column(period)))
    if vertical.any():
        mix += _column(vertical) * (0.5 + 0.5 * _wave(across / _column(0.7 * period) + 0.25))
    if chest.any():
        disc = 1 - ((t - 0.38) * 4.2) ** 2 - (side * 1.7) ** 2
        mix += _column(chest) * np.clip(disc * 3, 0, 1)
    return mix


def _wave(phase: np.ndarray) -> np.ndarray:
    """Return stripes of period 1 between -1 and 1, with soft edges."""
    return np.clip(3 * (np.abs(phase - np.floor(phase) - 0.5) * 4 - 1), -1, 1)


def _column(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)[:, None, None]


def _columns(*values: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(_column(value) for value in values)
