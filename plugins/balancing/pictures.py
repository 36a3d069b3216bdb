"""Pictures for inspection: real beside generated images, and counts before and after."""

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from plugins.balancing.photographs import Photograph, count_pairs
from plugins.balancing.planner import FEW, ONE_CAMERA, REASONS
from plugins.balancing.tables import Outcome
from plugins.errors import InputError
from plugins.utils.commands import command_line
from plugins.utils.images import read_image
from plugins.utils.io import write_atomically

ROWS = 24  # pairs on a sheet, evenly spaced over the plan
IMAGES = 5  # of a pair, real and generated
HEIGHT, WIDTH = 128, 64  # of an image, pixels
GAP, MARGIN, LABEL, HEADER, CAPTION = 6, 24, 170, 70, 20
PAPER, INK, FAINT, EMPTY = "#ffffff", "#1f2933", "#6b7785", "#e4e7eb"
REAL, COLORS = "#8795a1", {FEW: "#2680c2", ONE_CAMERA: "#e07a1f"}
WORDS = {FEW: "few images", ONE_CAMERA: "mostly one camera"}
BAR_LABELS = 20  # with more bars, none is named


def draw_sheet(
    file: Path, photographs: Sequence[Photograph], outcomes: Sequence[Outcome], folder: Path
) -> None:
    """Draw a row for each person and camera of a slot: real images left, generated ones right.

    A pair without a real image shows the person in other cameras, with a note. A pair with slots of
    both reasons names both. Empty slots are gray.

    Args:
        file: PNG to write.
        photographs: the real images.
        outcomes: rows of the manifest, at least one.
        folder: folder of the manifest.

    Raises:
        InputError: a generated image is missing.
    """
    pairs: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for row in outcomes:
        pairs[row.person, row.camera].append(row)
    indices = np.linspace(0, len(pairs) - 1, min(ROWS, len(pairs))).astype(int)
    shown = [list(pairs.items())[index] for index in indices]
    by_pair: dict[tuple[str, str], list[str]] = defaultdict(list)
    by_person: dict[str, list[str]] = defaultdict(list)
    for photograph in photographs:
        by_pair[photograph.person, photograph.camera].append(photograph.path)
        by_person[photograph.person].append(photograph.path)

    text, heading = ImageFont.load_default(13), ImageFont.load_default(20)
    half = IMAGES * (WIDTH + GAP)
    right = MARGIN + LABEL + half + 4 * GAP
    step = HEIGHT + CAPTION + GAP
    sheet = Image.new("RGB", (right + half + MARGIN, HEADER + len(shown) * step + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN + LABEL, 18), "real", INK, heading)
    pen.text((right, 18), "generated", INK, heading)
    caption = f"{len(shown)} of {len(pairs)} pairs of person and camera, evenly spaced"
    pen.text((MARGIN + LABEL, 46), caption, FAINT, text)
    pen.text((right, 46), "# the person's rank, probability of the camera", FAINT, text)

    for number, ((person, camera), rows) in enumerate(shown):
        top = HEADER + number * step
        reasons = [reason for reason in REASONS if any(row.reason == reason for row in rows)]
        for index, reason in enumerate(reasons):
            part = top + index * HEIGHT // len(reasons)
            pen.rectangle((MARGIN, part, MARGIN + 4, top + HEIGHT), COLORS[reason])
        filled = [row for row in rows if row.path]
        words = [f"person {person}", f"camera {camera}", *(WORDS[reason] for reason in reasons)]
        for line, word in enumerate([*words, f"{len(filled)} of {len(rows)} slots filled"]):
            pen.text((MARGIN + 12, top + line * 20), word, INK if line < 2 else FAINT, text)
        real = by_pair[person, camera]
        for index, path in enumerate(evenly(real or by_person[person])):
            sheet.paste(thumbnail(path), (MARGIN + LABEL + index * (WIDTH + GAP), top))
        if not real:
            note = "no real image: the person in other cameras"
            pen.text((MARGIN + LABEL, top + HEIGHT + 2), note, FAINT, text)
        for index, row in enumerate(evenly([*filled, *(row for row in rows if not row.path)])):
            corner = (right + index * (WIDTH + GAP), top)
            if not row.path:
                pen.rectangle((*corner, corner[0] + WIDTH - 1, top + HEIGHT - 1), EMPTY)
                continue
            if not (folder / row.path).is_file():
                raise InputError(
                    f"{folder / row.path}: no such file; "
                    f"{command_line('balance_data')} generate makes it"
                )
            sheet.paste(thumbnail(folder / row.path), corner)
            note = f"#{row.person_rank}, {row.camera_probability:.2f}"
            pen.text((corner[0], top + HEIGHT + 2), note, FAINT, text)
    write_atomically(file, lambda out: sheet.save(out, format="PNG"))


def draw_charts(file: Path, photographs: Sequence[Photograph], outcomes: Sequence[Outcome]) -> None:
    """Chart the real images of each person and each camera, with the generated ones on top.

    Args:
        file: PNG to write.
        photographs: the real images, at least one.
        outcomes: rows of the manifest; empty slots do not count.
    """
    figure = Figure(figsize=(12, 8), layout="constrained")
    for axis, part, title in zip(figure.subplots(2), (0, 1), ("person", "camera"), strict=True):
        real, added = tally(photographs, outcomes, part)
        names = sorted(real, key=lambda name: (-real[name], name))
        bottom = np.array([real[name] for name in names])
        axis.bar(range(len(names)), bottom, color=REAL, label="real")
        for reason in REASONS:
            height = np.array([added[reason][name] for name in names])
            label = f"generated, {WORDS[reason]}: {height.sum()}"
            axis.bar(range(len(names)), height, bottom=bottom, color=COLORS[reason], label=label)
            bottom = bottom + height
        axis.axhline(np.mean(list(real.values())), color=INK, lw=1, ls="--", label="mean of real")
        axis.set(title=f"Images of each {title}", ylabel="images", xlim=(-0.6, len(names) - 0.4))
        axis.spines[["top", "right"]].set_visible(False)
        if len(names) <= BAR_LABELS:
            axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
        else:
            axis.set(xticks=[], xlabel=f"{len(names)} of them, the most frequent first")
        axis.set_ylim(0, 1.05 * bottom.max())
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    write_atomically(file, lambda out: figure.savefig(out, format="png", dpi=100))


def tally(
    photographs: Sequence[Photograph], outcomes: Sequence[Outcome], part: int
) -> tuple[Counter[str], dict[str, Counter[str]]]:
    """Count real images, and generated ones of each reason, by person (part 0) or camera (1)."""
    real: Counter[str] = Counter()
    for pair, number in count_pairs(photographs).items():
        real[pair[part]] += number
    added = {
        reason: Counter(
            (row.person, row.camera)[part] for row in outcomes if row.path and row.reason == reason
        )
        for reason in REASONS
    }
    return real, added


def evenly(rows: Sequence) -> list:
    """Return at most IMAGES of the rows, evenly spaced."""
    indices = np.linspace(0, len(rows) - 1, min(IMAGES, len(rows))).astype(int)
    return [rows[index] for index in indices]


def thumbnail(path: str | Path) -> Image.Image:
    """Read an image and resize it for the sheet."""
    # No limit on pixels, because a training has read the image under the limit of its run.
    image = read_image(path, sys.maxsize)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
