"""Pictures of a report, each the bytes of a PNG file."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from plugins.attacks.features import row_groups
from plugins.data.datasets.tracklet import Tracklet
from plugins.evaluation import Side, ranked_lists
from plugins.robustness.levels import REFERENCE_ATTACK
from plugins.robustness.runner import AttackRunner
from plugins.utils.pictures import FRAME, INK, RIGHT, WRONG, clip_strip

EXAMPLES = 3
LIST_LENGTH = 5
MAGNIFIED = 20  # times the perturbation, around mid-gray
CLEAN, ATTACKED, FAINT = "#7b8794", "#2f6db5", "#cbd2d9"
INCH = 120  # pixels
WIDTH = 7.4  # inches, of every picture
NAMED = 40  # people; the names of more would overlap
COLUMNS = 6  # fewer frames than that leave room at the right


@dataclass(frozen=True)
class Example:
    """A query before and after an attack.

    Attributes:
        query: item of the query.
        clean: (T, 3, H, W) clean frames of its first clip, 0 to 255; T = 1 for an image.
        attacked: (T, 3, H, W) attacked frames.
        before: gallery items in the list of the clean query, nearest first.
        after: gallery items in the list of the attacked query.
    """

    query: Tracklet
    clean: Tensor
    attacked: Tensor
    before: Sequence[Tracklet]
    after: Sequence[Tracklet]

    @property
    def caption(self) -> str:
        """Say whether the first item shows the person of the query, before and after."""
        before, after = (
            "right" if ranked and ranked[0].pid == self.query.pid else "wrong"
            for ranked in (self.before, self.after)
        )
        return (
            f"Rank-1 is {before} before and {after} after the attack. Of each gallery item the "
            "first frame is shown."
        )


def find_examples(runner: AttackRunner, items: Sequence[Tracklet]) -> list[Example]:
    """Choose ``EXAMPLES`` queries; those whose Rank-1 the reference attack broke come first.

    Args:
        runner: the attacks of the report.
        items: query + gallery.
    """
    clean, attacked = runner.clean_scores.hit, runner.run_on_all(REFERENCE_ATTACK).hit
    kinds = (clean & ~attacked, clean & attacked, ~clean)
    broken, survived, wrong = (kind.nonzero().flatten().tolist() for kind in kinds)
    few = EXAMPLES - 1
    chosen = (broken[:few] + survived[:1] + broken[few:] + survived[1:] + wrong)[:EXAMPLES]
    indices = [index for kind in (broken, survived, wrong) for index in kind if index in chosen]
    rows = runner.rows[torch.tensor(indices, device=runner.rows.device)]
    attack = runner.make_attack(REFERENCE_ATTACK)
    examples = {}
    for batch, guides in runner.batches(rows):
        both = batch, attack.run(runner.adapter, batch, guides).batch
        groups, batch_rows = row_groups(batch)
        with torch.no_grad():
            lists = [_ranked(runner, batch_rows, runner.adapter(each)) for each in both]
        for index, row in enumerate(batch_rows.tolist()):
            clip = int((groups == index).nonzero()[0])
            clean_frames, attacked_frames = (_frames(each["images"][clip]) for each in both)
            before, after = (
                [items[item] for item in ranked[index] if item >= 0] for ranked in lists
            )
            examples[row] = Example(items[row], clean_frames, attacked_frames, before, after)
    return [examples[row] for row in rows.tolist()]


def _ranked(runner: AttackRunner, rows: Tensor, features: Tensor) -> list[list[int]]:
    """Return the first rows of query + gallery in the list of each row, -1 where it ends."""
    task = runner.task
    items = Side(task.features, task.pids, task.camids)
    queries = items.select(rows.to(items.pids.device)).with_features(features.to(items.features))
    columns, _ = ranked_lists(
        queries,
        items.select(task.gallery_rows),
        length=LIST_LENGTH,
        metric=task.metric,
        junk=task.junk,
    )
    ranked = task.gallery_rows[columns.clamp_min(0).to(task.gallery_rows.device)].cpu()
    return ranked.masked_fill(columns.cpu() < 0, -1).tolist()


def _frames(clip: Tensor) -> Tensor:
    """Return the frames (T, 3, H, W) of a clip, or of an image, on the CPU."""
    return clip.detach().cpu().reshape(-1, *clip.shape[-3:])


def plot_example(example: Example) -> bytes:
    """Draw all frames of the query, their perturbation, the attacked query, and both lists.

    A clip stands above its lists, an image beside them.
    """
    number = len(example.clean)
    if number == 1:
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        places = figure.add_gridspec(1, 2, width_ratios=[3, LIST_LENGTH])
    else:
        columns = max(number, COLUMNS)
        side = WIDTH / columns  # of a frame
        figure = Figure(figsize=(WIDTH, 3 * (2 * side + 0.2) + 5.2), layout="constrained")
        places = figure.add_gridspec(2, 1, height_ratios=[3 * (2 * side + 0.2), 5.2])
    clip, lists = (figure.add_subfigure(places[index]) for index in (0, 1))
    grid = clip.subplots(1, 3, squeeze=False).T if number == 1 else clip.subplots(3, columns)
    for axes in grid.flat:
        axes.set_axis_off()
    delta = example.attacked - example.clean
    strips = (
        ("query", example.clean),
        (f"perturbation x {MAGNIFIED}", 127.5 + MAGNIFIED * delta),
        ("attacked query", example.attacked),
    )
    for line, (title, frames) in zip(grid, strips, strict=True):
        for axes, frame in zip(line, frames, strict=False):  # fewer frames than columns
            axes.set_axis_on()
            _show(axes, frame.clamp(0, 255).permute(1, 2, 0).byte().numpy(), "", INK)
        line[0].set_title(title, fontsize=8, color=INK, loc="left" if number > 1 else "center")
    _draw_lists(lists.subplots(2, LIST_LENGTH), example)
    return png_of(figure)


def _draw_lists(grid: np.ndarray, example: Example) -> None:
    """Draw the list before the attack in the first row of axes, that after it in the second."""
    for axes in grid.flat:
        axes.set_axis_off()
    for line, when, ranked in zip(
        grid, ("before", "after"), (example.before, example.after), strict=True
    ):
        for rank, (axes, item) in enumerate(zip(line, ranked, strict=False), start=1):
            axes.set_axis_on()
            right = item.pid == example.query.pid
            title = f"{when}: 1" if rank == 1 else str(rank)
            pixels = np.asarray(clip_strip(item.img_paths, frames=1))
            _show(axes, pixels, title, RIGHT if right else WRONG)
            # Not by color alone.
            axes.set_xlabel("same person" if right else "another", fontsize=7, color=INK)


def _show(axes: Axes, pixels: np.ndarray, title: str, color: str) -> None:
    axes.imshow(pixels, aspect=FRAME[1] / FRAME[0] * pixels.shape[1] / pixels.shape[0])
    axes.set_title(title, fontsize=8, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=2.5)


def plot_curve(card: dict) -> bytes:
    """Plot Rank-1 by budget."""
    points = [(point["eps"], point["Rank-1"]) for point in card["curve"]["points"]]
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(card["threat"]["eps"], color=FAINT, linewidth=1, zorder=0)
    axes.annotate(
        "eps of the threat model",
        (card["threat"]["eps"], 101),
        (3, -2),
        textcoords="offset points",
        fontsize=8,
        color=CLEAN,
        va="top",
    )
    axes.plot(*zip(*points, strict=True), color=ATTACKED, marker="o", markersize=4)
    for eps, value in points:
        axes.annotate(
            f"{value:.0f}",
            (eps, value),
            (0, 6),
            textcoords="offset points",
            fontsize=8,
            ha="center",
            color=INK,
        )
    budget_axis(axes, [eps for eps, _ in points], card["threat"]["norm"])
    axes.set(ylabel="Rank-1, %", ylim=(0, 110))
    bare(axes)
    return png_of(figure)


def budget_axis(axes: Axes, budgets: Sequence[float], norm: str) -> None:
    """Show each budget at its logarithm, which the label says, and 0 at the left."""
    smallest = max(min((eps for eps in budgets if eps > 0), default=1.0), 1e-3)
    axes.set_xscale("symlog", linthresh=smallest, base=2)
    axes.set_xticks(budgets, [f"{eps:g}" for eps in budgets], fontsize=8)
    axes.minorticks_off()
    axes.set_xlabel(f"eps, gray levels, {norm}; logarithmic from {smallest:g} on")


def plot_attacks(card: dict) -> bytes:
    """Plot Rank-1 and mAP, clean, by attack and at worst, with intervals over people."""
    blocks = {"clean": card["clean"], **card["attacks"], "worst case": card["worst"]}
    figure = Figure(figsize=(WIDTH, 0.9 + 0.36 * len(blocks)), layout="constrained")
    positions = range(len(blocks))
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), ("Rank-1", "mAP"), strict=True):
        values = [block[metric]["value"] for block in blocks.values()]
        ends = np.array([block[metric]["interval_over_people"] for block in blocks.values()]).T
        margins = np.maximum([values - ends[0], ends[1] - values], 0)
        colors = [CLEAN, *[ATTACKED] * (len(blocks) - 2), INK]
        axes.barh(positions, values, color=colors, height=0.62)
        axes.errorbar(values, positions, xerr=margins, fmt="none", ecolor="#9aa5b1", capsize=3)
        for position, value, end in zip(positions, values, ends[1], strict=True):
            axes.annotate(
                f"{value:.1f}",
                (max(value, end), position),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=INK,
            )
        axes.set_yticks(positions, list(blocks), fontsize=9)
        axes.set(xlabel=f"{metric}, %", xlim=(0, 118), xticks=range(0, 101, 25))
        bare(axes)
    axes.invert_yaxis()
    return png_of(figure)


def plot_people(card: dict) -> bytes:
    """Plot clean and worst-case Rank-1 of each person, in the order of the worst case."""
    people = card["people"]
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.add_subplot()
    positions = np.arange(len(people))
    axes.bar(
        positions, [person["clean"] for person in people], width=0.9, color=FAINT, label="clean"
    )
    axes.bar(
        positions,
        [person["worst"] for person in people],
        width=0.9,
        color=ATTACKED,
        label="worst case",
    )
    axes.set(xlabel=f"{len(people)} people, least robust first", ylabel="Rank-1, %")
    names = [str(person.get("name", person.get("id", ""))) for person in people]
    few = len(people) <= NAMED
    axes.set_xticks(positions if few else [], names if few else [], rotation=90, parse_math=False)
    axes.set(ylim=(0, 105), xlim=(-0.6, len(people) - 0.4))
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    bare(axes)
    return png_of(figure)


def people_caption(card: dict) -> str:
    """Say what ``plot_people`` shows, and where no bar can be seen."""
    empty = [
        words
        for key, words in (("clean", "without an attack"), ("worst", "in the worst case"))
        if not any(person[key] for person in card["people"])
    ]
    said = f"; it is 0 % for all people {' and '.join(empty)}" if empty else ""
    return f"Rank-1 by person{said}"


def bare(axes: Axes) -> None:
    """Take the frame away, all but its left and lower side."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def png_of(figure: Figure) -> bytes:
    """Return a figure as a PNG file, the same for the same numbers."""
    file = io.BytesIO()
    # Without the version of matplotlib.
    figure.savefig(file, format="png", dpi=INCH, metadata={"Software": None})
    return file.getvalue()
