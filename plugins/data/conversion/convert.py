"""Write a data set in another layout, whole or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from fastreid.config import CfgNode
from tqdm import tqdm

from plugins.data.checks import check_unlisted
from plugins.data.conversion import bupt_campus, hitsz_vcm, manifest
from plugins.data.conversion.item import Item, Plan, read_items
from plugins.data.datasets.build import build_dataset
from plugins.data.datasets.tracklet import SPLITS
from plugins.data.outside import require_outside
from plugins.errors import DISK_FULL, InputError, RunFailed
from plugins.protocol import Direction
from plugins.utils.drafts import draft_of, require_new

# Each has NAME, open_set, plan and write_index.
TARGETS: dict[str, ModuleType] = {
    module.NAME: module for module in (hitsz_vcm, bupt_campus, manifest)
}
# Ways to place a frame: (source, target) -> None.
PLACEMENTS: dict[str, Callable[[str, str], object]] = {
    "copy": shutil.copyfile,
    "hardlink": os.link,
    "symlink": os.symlink,
}


class Conversion(NamedTuple):
    """Result of a conversion.

    Attributes:
        tracklets: number of tracklets written.
        frames: number of frames written.
        losses: what the layout does not keep, a line each.
    """

    tracklets: int
    frames: int
    losses: list[str]


def convert(name: str, target: str, out: Path, cfg: CfgNode, placement: str = "copy") -> Conversion:
    """Write the data set ``name`` into the new folder ``out``.

    The folder grows under another name, is read back and compared, and then renamed to ``out``.

    Args:
        name: as in DATASETS.NAMES; the set is read from where training reads it.
        target: layout, a name of ``TARGETS``.
        out: must not exist.
        cfg: holds the data set's options.
        placement: a name of ``PLACEMENTS``; symbolic links are absolute.

    Raises:
        InputError: from the data set; ``out`` is there, or the rest of a killed conversion; the
            layout cannot hold the set; a frame is missing, or cannot be linked.
    """
    out = Path(os.path.abspath(out))
    require_new(out)
    data = build_dataset(name, "the data set", cfg=cfg)
    items = read_items(data)
    require_outside("--out", out, [*data.train, *data.query, *data.gallery])
    layout = TARGETS[target]
    plan = layout.plan(items)

    with draft_of(out, "--out", "conversion") as draft:
        place_frames(plan, draft, placement)
        layout.write_index(draft, plan.items)
        copy = layout.open_set(draft)
        check_copy(plan, read_items(copy), draft)
    losses = plan.losses + compare_directions(data.directions(), copy.directions())
    losses += [complaint.text for complaint in check_unlisted(data)]
    if generated := sum(len(getattr(data, split)) for split in SPLITS) - len(items):
        losses.append(f"{generated} generated tracklets are left out")
    return Conversion(len(plan.items), sum(len(item.files) for item in plan.items), losses)


def place_frames(plan: Plan, root: Path, placement: str) -> None:
    """Copy or link every frame to its file below ``root``, with a progress bar.

    Raises:
        InputError: a frame is missing, or cannot be linked.
        RunFailed: the disk is full.
    """
    put = PLACEMENTS[placement]
    frames = sum(len(item.files) for item in plan.items)
    with tqdm(total=frames, unit="frame", desc=f"{placement} to {root}") as bar:
        for item, sources in zip(plan.items, plan.sources, strict=True):
            (root / item.files[0]).parent.mkdir(parents=True, exist_ok=True)
            for source, file in zip(sources, item.files, strict=True):
                # Links shall lead to the frame, not to another link.
                real = os.path.realpath(source)
                if not os.path.isfile(real):
                    raise InputError(f"{source}: no such frame")
                try:
                    put(real, str(root / file))
                except OSError as error:
                    kind = RunFailed if error.errno in DISK_FULL else InputError
                    raise kind(
                        f"{source}: {placement} to {root / file}: {error.strerror}"
                    ) from error
            bar.update(len(sources))


def check_copy(plan: Plan, copied: list[Item], root: Path) -> None:
    """Assert that the copy holds, split by split, what was planned."""
    for split in SPLITS:
        planned = [
            item._replace(files=tuple(str(root / file) for file in item.files))
            for item in plan.items
            if item.split == split
        ]
        assert planned == [item for item in copied if item.split == split], f"{root}: {split}"


def compare_directions(old: dict[str, Direction], new: dict[str, Direction]) -> list[str]:
    """List the directions of ``old`` that ``new`` tests in another way, a line each.

    The first word of a name is the direction's; the reader's options follow it.
    """
    known = {name.split()[0]: describe(direction) for name, direction in new.items()}
    lines = []
    for name, direction in old.items():
        was, now = describe(direction), known.get(name.split()[0], "no such test")
        if was != now:
            lines.append(f"{name} was: {was}; is: {now}")
    return lines


def describe(direction: Direction) -> str:
    """Describe a direction in words; sizes are those of its first trial."""
    query, gallery = direction.trials[0]
    return (
        f"{len(direction.trials)} x {len(query)} queries in {len(gallery)}, "
        f"junk rule {direction.junk}, CMC by {direction.cmc}"
    )
