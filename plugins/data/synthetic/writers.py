"""Rendered walks as a data set on disk, in the layout of HITSZ-VCM.

``Train|Test/<pid>/<ir|rgb>/D<camera>/<frame>.jpg`` and five files in ``info/``, which are written
last: where they lie, every frame lies. ``synthetic.json`` beside ``info/`` says what was asked for.
"""

import dataclasses
import json
import logging
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import PIL
from PIL import Image
from tqdm import tqdm

from plugins.data.synthetic.frame import render_walk
from plugins.data.synthetic.plan import INFRARED, MODALITIES, VISIBLE, Walk, plan_split
from plugins.data.synthetic.scene import draw_camera
from plugins.data.synthetic.settings import LONGEST_TRACKLET, SyntheticSettings
from plugins.errors import InputError

logger = logging.getLogger(__name__)

RENDERER = 1  # goes up whenever the same settings give other pictures
RECORD = "synthetic.json"
SPLITS = ("train", "test")
_FOLDERS = {VISIBLE: "rgb", INFRARED: "ir"}
_LETTERS = {VISIBLE: 2, INFRARED: 1}  # the M of HITSZ-VCM's file names


@dataclass(frozen=True)
class Recording:
    """One walk and where its frames go.

    Attributes:
        walk: what to render.
        folder: relative to the data set's root.
        first_frame: name of its first file; frames run on through all walks of a folder.
        first_tracklet: number of its first tracklet, likewise.
    """

    walk: Walk
    folder: str
    first_frame: int
    first_tracklet: int

    def tracklets(self) -> Iterator[tuple[int, range]]:
        """(number, frame names) of each: the walk cut after every 24 frames, the rest unpadded."""
        end = self.first_frame + self.walk.frames
        for number, start in enumerate(range(self.first_frame, end, LONGEST_TRACKLET)):
            yield self.first_tracklet + number, range(start, min(start + LONGEST_TRACKLET, end))


def render_hitsz_vcm(
    root: Path, settings: SyntheticSettings, workers: int = 1, overwrite: bool = False
) -> dict[str, dict[str, int]]:
    """Render a data set; one that is there already and finished is left as it is.

    Args:
        root: folder of the data set, made if need be.
        settings: what to render.
        workers: processes; their number does not change a byte.
        overwrite: replace a rendered data set of other settings.

    Returns:
        "<split>/<modality>/D<camera>" to its number of identities, tracklets and frames.

    Raises:
        InputError: the folder holds something else than this data set.
    """
    root = Path(root)
    recordings = {split: plan_recordings(settings, split) for split in SPLITS}
    counts = count(recordings)
    record = {"renderer": RENDERER, "settings": dataclasses.asdict(settings)}
    found = _read_record(root)
    if found and not record.items() <= found.items():
        if not overwrite:
            raise InputError(
                f"{root / RECORD}: rendered with {_difference(found, record)}; "
                "choose another folder or pass --overwrite"
            )
        for name in (*(split.title() for split in SPLITS), "info"):
            shutil.rmtree(root / name, ignore_errors=True)
    elif found and found["finished"]:
        logger.info("%s: already there", root)
        return counts
    root.mkdir(parents=True, exist_ok=True)
    record["versions"] = {"numpy": np.__version__, "pillow": PIL.__version__}
    _write_record(root, record | {"finished": False})

    jobs = [recording for split in SPLITS for recording in recordings[split]]
    write = partial(_write_recording, root, settings)
    frames = sum(recording.walk.frames for recording in jobs)
    with tqdm(total=frames, unit="frame", desc=f"rendering {root}") as bar:
        if workers > 1:
            with multiprocessing.Pool(workers) as pool:
                for done in pool.imap_unordered(write, jobs, chunksize=4):
                    bar.update(done)
        else:
            for job in jobs:
                bar.update(write(job))
    _write_info(root / "info", recordings)
    _write_record(root, record | {"finished": True, "counts": counts})
    return counts


def plan_recordings(settings: SyntheticSettings, split: str) -> list[Recording]:
    """The walks of a split with their places on disk, ordered by person, modality, camera."""
    frames, tracklets, recordings = Counter(), Counter(), []
    for walk in plan_split(settings, split):
        camera = f"D{walk.camid}"
        folder = f"{split.title()}/{walk.pid:04d}/{_FOLDERS[walk.modality]}/{camera}"
        recording = Recording(walk, folder, 1 + frames[folder], 1 + tracklets[folder])
        frames[folder] += walk.frames
        tracklets[folder] += sum(1 for _ in recording.tracklets())
        recordings.append(recording)
    return recordings


def count(recordings: dict[str, list[Recording]]) -> dict[str, dict[str, int]]:
    """Identities, tracklets and frames by "<split>/<modality>/D<camera>"."""
    table: dict[str, dict[str, int]] = {}
    seen: dict[str, set[int]] = {}
    for split, rows in recordings.items():
        for row in sorted(rows, key=lambda row: (row.walk.modality, row.walk.camid)):
            key = f"{split}/{MODALITIES[row.walk.modality]}/D{row.walk.camid}"
            cell = table.setdefault(key, {"identities": 0, "tracklets": 0, "frames": 0})
            seen.setdefault(key, set()).add(row.walk.pid)
            cell["identities"] = len(seen[key])
            cell["tracklets"] += sum(1 for _ in row.tracklets())
            cell["frames"] += row.walk.frames
    return table


def _read_record(root: Path) -> dict | None:
    """What was rendered into the folder, finished or not; nothing in a new or empty one."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    file = root / RECORD
    if not file.is_file():
        found = next(root.iterdir()).name if root.is_dir() else "a file"
        raise InputError(
            f"{root}: found {found} and no {RECORD}, so this was not rendered and stays as it is; "
            "expected a new or empty folder"
        )
    try:
        return json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: line {error.lineno} is no JSON; expected a record") from error


def _difference(found: dict, wanted: dict) -> str:
    old, new = ({"renderer": r.get("renderer")} | r.get("settings", {}) for r in (found, wanted))
    keys = [key for key in new if old.get(key) != new[key]]
    return ", ".join(f"{key} {old.get(key)} (asked for: {new[key]})" for key in keys)


def _write_record(root: Path, record: dict) -> None:
    draft = root / f"{RECORD}.part"
    draft.write_text(json.dumps(record, indent=2) + "\n")
    draft.replace(root / RECORD)


def _write_recording(root: Path, settings: SyntheticSettings, recording: Recording) -> int:
    folder = root / recording.folder
    folder.mkdir(parents=True, exist_ok=True)
    camera = draw_camera(settings.seed, recording.walk.camid, settings.difficulty)
    for frame, pixels in enumerate(render_walk(settings, recording.walk), recording.first_frame):
        picture = Image.fromarray(pixels)
        picture.save(folder / f"{frame}.jpg", quality=camera.quality, subsampling=0)
    return recording.walk.frames


def _write_info(info: Path, recordings: dict[str, list[Recording]]) -> None:
    info.mkdir(exist_ok=True)
    for split, rows in recordings.items():
        names, tracks, queries = [], [], []
        for row in rows:
            walk = row.walk
            letter = _LETTERS[walk.modality]
            for number, frames in row.tracklets():
                start = len(names) + 1
                stem = f"{walk.pid:04d}M{letter}D{walk.camid}T{number}"
                names += [f"{stem}F{frame}.jpg" for frame in frames]
                tracks.append(f"{letter} {start} {len(names)} {walk.pid:04d} {walk.camid}")
                if walk.modality == INFRARED:
                    queries.append(str(len(tracks)))
        (info / f"{split}_name.txt").write_text("\n".join(names) + "\n")
        (info / f"track_{split}_info.txt").write_text("\n".join(tracks) + "\n")
        if split == "test":
            (info / "query_IDX.txt").write_text(" ".join(queries) + "\n")
