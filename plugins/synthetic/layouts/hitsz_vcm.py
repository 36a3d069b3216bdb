"""The layout of HITSZ-VCM.

``Train|Test/<pid>/<ir|rgb>/D<camera>/<frame>.jpg`` and five files in ``info/``.
"""

from collections import Counter
from pathlib import Path

from plugins.data.conversion import hitsz_vcm
from plugins.data.conversion.item import Item
from plugins.data.datasets.hitsz_vcm import MODALITY_FOLDERS
from plugins.synthetic.plan import plan_split
from plugins.synthetic.settings import SyntheticSettings
from plugins.synthetic.writers import Layout, Recording

SPLITS = ("train", "test")


def plan(settings: SyntheticSettings) -> dict[str, list[Recording]]:
    """List the walks of each split with their files, ordered by person, modality, camera.

    Frames of a folder are numbered through all its walks; a walk is cut after every
    ``settings.tracklet_frames`` frames, the last piece is shorter.
    """
    return {split: _plan_split(settings, split) for split in SPLITS}


def _plan_split(settings: SyntheticSettings, split: str) -> list[Recording]:
    taken: Counter[str] = Counter()
    recordings = []
    longest = settings.tracklet_frames
    for walk in plan_split(settings, split):
        camera = f"D{walk.camid}"
        folder = f"{split.title()}/{walk.pid:04d}/{MODALITY_FOLDERS[walk.modality]}/{camera}"
        first = 1 + taken[folder]
        taken[folder] += walk.frames
        starts = range(0, walk.frames, longest)
        recordings.append(
            Recording(
                walk,
                camera,
                range(walk.frames),
                tuple(f"{folder}/{first + frame}.jpg" for frame in range(walk.frames)),
                tuple(range(start, min(start + longest, walk.frames)) for start in starts),
            )
        )
    return recordings


def write_index(root: Path, recordings: dict[str, list[Recording]]) -> None:
    """Write ``info/``."""
    items = [
        Item(
            split,
            str(row.walk.pid),
            str(row.walk.camid),
            row.walk.modality,
            row.files[tracklet.start : tracklet.stop],
        )
        for split, rows in recordings.items()
        for row in rows
        for tracklet in row.tracklets
    ]
    hitsz_vcm.write_index(root, items)


HITSZ_VCM = Layout("hitsz-vcm", "HITSZ-VCM", ("Train", "Test", "info"), plan, write_index)
