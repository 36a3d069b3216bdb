"""The layout of HITSZ-VCM.

``Train|Test/<pid>/<ir|rgb>/D<camera>/<frame>.jpg`` and five files in ``info/``.
"""

from collections import Counter
from pathlib import Path

from plugins.data.synthetic.plan import INFRARED, VISIBLE, plan_split
from plugins.data.synthetic.settings import LONGEST_TRACKLET, SyntheticSettings
from plugins.data.synthetic.writers import Layout, Recording

SPLITS = ("train", "test")
_FOLDERS = {VISIBLE: "rgb", INFRARED: "ir"}
_LETTERS = {VISIBLE: 2, INFRARED: 1}  # the M of HITSZ-VCM's file names


def plan(settings: SyntheticSettings) -> dict[str, list[Recording]]:
    """The walks of each split with their places on disk, ordered by person, modality, camera.

    Frames of a folder are numbered through all its walks; a walk is cut after every 24 frames, the
    last piece is shorter.
    """
    return {split: _plan_split(settings, split) for split in SPLITS}


def _plan_split(settings: SyntheticSettings, split: str) -> list[Recording]:
    taken, recordings = Counter(), []
    for walk in plan_split(settings, split):
        camera = f"D{walk.camid}"
        folder = f"{split.title()}/{walk.pid:04d}/{_FOLDERS[walk.modality]}/{camera}"
        first = 1 + taken[folder]
        taken[folder] += walk.frames
        starts = range(0, walk.frames, LONGEST_TRACKLET)
        recordings.append(
            Recording(
                walk,
                camera,
                range(walk.frames),
                tuple(f"{folder}/{first + frame}.jpg" for frame in range(walk.frames)),
                tuple(range(start, min(start + LONGEST_TRACKLET, walk.frames)) for start in starts),
            )
        )
    return recordings


def write_index(root: Path, recordings: dict[str, list[Recording]]) -> None:
    """Write ``info/``; tracklets of a folder are numbered from 1."""
    info = root / "info"
    info.mkdir(exist_ok=True)
    for split, rows in recordings.items():
        names, tracks, queries, numbers = [], [], [], Counter()
        for row in rows:
            walk = row.walk
            letter = _LETTERS[walk.modality]
            for tracklet in row.tracklets:
                start = len(names) + 1
                stem = f"{walk.pid:04d}M{letter}{row.camera}"
                numbers[stem] += 1
                files = [row.files[frame].rpartition("/")[2] for frame in tracklet]
                names += [f"{stem}T{numbers[stem]}F{file}" for file in files]
                tracks.append(f"{letter} {start} {len(names)} {walk.pid:04d} {walk.camid}")
                if walk.modality == INFRARED:
                    queries.append(str(len(tracks)))
        (info / f"{split}_name.txt").write_text("\n".join(names) + "\n")
        (info / f"track_{split}_info.txt").write_text("\n".join(tracks) + "\n")
        if split == "test":
            (info / "query_IDX.txt").write_text(" ".join(queries) + "\n")


HITSZ_VCM = Layout("hitsz-vcm", ("Train", "Test", "info"), plan, write_index)
