"""Figures with a title and a caption, and the files that hold them: PNG, PDF or SVG."""

import io
import os
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plugins.errors import InputError, require_output
from plugins.utils.io import write_atomically
from plugins.utils.names import join_choices
from plugins.utils.pictures import FAINT, INK

ENDINGS = (".png", ".pdf", ".svg")
DPI = 144
LARGEST = 60_000  # pixels of a side of a PNG, with room for words; matplotlib refuses 2^16

# Points.
TEXT, SMALL, TITLE = 9.0, 8.0, 12.0
# Okabe and Ito's colors, which people with any kind of color blindness tell apart.
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
VISIBLE_COLOR, INFRARED_COLOR = BLUE, ORANGE
GRID = "#d9dee4"
# Settings of the machine, not of a drawing.
MACHINE = ("backend", "interactive", "toolbar", "timezone", "tk.", "webagg.", "docstring", "date.")
# All others are matplotlib's own, whatever a user's file or another package has set. A name may
# hold a dollar sign, which would start a formula. Equal figures give equal files.
STYLE: dict[Any, Any] = {
    **{key: value for key, value in rcParamsDefault.items() if not key.startswith(MACHINE)},
    **{"font.size": TEXT, "axes.titlesize": TEXT, "axes.labelsize": TEXT},
    **{"xtick.labelsize": SMALL, "ytick.labelsize": SMALL, "legend.fontsize": SMALL},
    **{"text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK},
    **{"axes.edgecolor": "#9aa5b1", "axes.spines.top": False, "axes.spines.right": False},
    **{"legend.frameon": False, "text.parse_math": False, "pdf.fonttype": 42},
    "svg.hashsalt": "plugins",
}
# What would tell the version of matplotlib and the time.
PLAIN_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
}
PAD = 0.15  # inches around everything
LETTER = 0.53  # mean width of a letter, as a share of the size of the font

styled = rc_context(STYLE)


class Picture(NamedTuple):
    """Describe a picture.

    Attributes:
        title: what is seen, in a few words.
        caption: sentences that say how to read it, and of how many queries or people it is.
        figure: the drawing, without both.
    """

    title: str
    caption: str
    figure: Figure


def require_picture(option: str, path: Path) -> None:
    """Raise InputError where a picture cannot be written, before the work that would be lost.

    Args:
        option: name of the option that names the file, for the message.
        path: file to write; the folders above it may be missing.
    """
    require_file_ending(option, path, ENDINGS)


def require_file_ending(option: str, path: Path, endings: tuple[str, ...]) -> None:
    """Raise InputError unless a file of one of these endings can be written at ``path``."""
    if path.suffix.lower() not in endings:
        raise InputError(
            f"{option} {path}: expected a file {join_choices([f'*{each}' for each in endings])}"
        )
    require_output(option, path, path.suffix.lower())
    nearest = next(each for each in (path, *path.parents) if each.exists())
    if not os.access(nearest, os.W_OK):
        raise InputError(f"{option} {path}: {nearest} cannot be written to")


def save_picture(path: str | os.PathLike, picture: Picture) -> None:
    """Write a picture with its title above and its caption below, whole or not at all.

    Args:
        path: the file; its ending decides the format, see ``ENDINGS``.
        picture: what to write.

    Raises:
        InputError: from :func:`require_picture`.
    """
    path = Path(path)
    require_picture("picture", path)
    contents = render(picture, path.suffix.lower().removeprefix("."))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(contents))


def render(picture: Picture, kind: str, *, words: bool = True) -> bytes:
    """Return the contents of a file; the same picture gives the same bytes.

    Args:
        picture: the picture.
        kind: "png", "pdf" or "svg".
        words: whether to write title and caption, which a page shows as text.

    Raises:
        InputError: a PNG would be larger than its writer can make it.
    """
    figure, file = picture.figure, io.BytesIO()
    if kind == "png" and max(figure.get_size_inches()) * DPI > LARGEST:
        width, height = (round(float(side) * DPI) for side in figure.get_size_inches())
        raise InputError(
            f"picture: {width} x {height} pixels; expected at most {LARGEST}: show fewer queries, "
            "or write .pdf or .svg"
        )
    metadata = PLAIN_METADATA[kind] | {"Title": picture.title}
    with rc_context(STYLE):
        texts = add_words(picture) if words else []
        figure.savefig(
            file, format=kind, dpi=DPI, bbox_inches="tight", pad_inches=PAD, metadata=metadata
        )
        for text in texts:
            text.remove()
    return file.getvalue()


def add_words(picture: Picture) -> list[Any]:
    """Write title and caption outside the figure, which a tight box takes in."""
    figure = picture.figure
    width, height = figure.get_size_inches()
    caption, title = (
        "\n".join(textwrap.wrap(text, round(width * 72 / (size * LETTER))))
        for text, size in ((picture.caption, TEXT), (picture.title, TITLE))
    )
    return [
        figure.text(0, 1 + 0.12 / height, title, va="bottom", fontsize=TITLE, fontweight="bold"),
        figure.text(0, -0.2 / height, caption, va="top", color=FAINT, linespacing=1.4),
    ]


def counted(number: int, one: str, several: str = "") -> str:
    """Write a number with its noun.

    >>> counted(1, "clip"), counted(2, "query", "queries")
    ('1 clip', '2 queries')
    """
    return f"{number} {one if number == 1 else several or one + 's'}"


def without_ticks(axes: Axes) -> None:
    """Remove ticks and frame of axes that show an image."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
