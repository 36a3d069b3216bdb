"""Write rendered walks as a data set on disk: the part that all layouts share.

A layout says which file each frame goes to and which index files describe them. The index is
written last: if it is there, every frame is. ``synthetic.json`` holds the settings.
"""

import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import PIL
from PIL import Image
from tqdm import tqdm

from plugins.errors import InputError
from plugins.synthetic.frame import render_walk
from plugins.synthetic.plan import MODALITIES, Walk
from plugins.synthetic.scene import draw_camera
from plugins.synthetic.settings import SyntheticSettings
from plugins.utils.io import read_mapping, write_errors, write_json
from plugins.utils.locks import hold
from plugins.utils.processes import worker_processes
from plugins.utils.values import shortened

logger = logging.getLogger(__name__)

RENDERER = 1  # goes up whenever the same settings give other pictures
RECORD = "synthetic.json"
TASK = "rendering"


@dataclass(frozen=True)
class Recording:
    """One walk and the files of its frames.

    Attributes:
        walk: the walk to render.
        camera: the layout's name of the walk's camera.
        frames: indices of the frames that are kept.
        files: one for each of ``frames``, relative to the data set's root.
        tracklets: ranges of ``files``, one for each tracklet.
        gray: further files of ``frames``, in gray; they are not counted.
    """

    walk: Walk
    camera: str
    frames: range | tuple[int, ...]
    files: tuple[str, ...]
    tracklets: tuple[range, ...]
    gray: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Files of a data set on disk.

    Attributes:
        name: as in ``tools/make_synthetic.py --layout``.
        folder: the folder of FASTREID_DATASETS in which the reader looks.
        owned: the files and folders that it writes into its folder.
        plan: settings -> split -> its recordings; raises InputError for settings that do not fit.
        write_index: (root, recordings) -> None, writes the index files.
        images: whether items are images, which ``imbalance`` thins out.
    """

    name: str
    folder: str
    owned: tuple[str, ...]
    plan: Callable[[SyntheticSettings], dict[str, list[Recording]]]
    write_index: Callable[[Path, dict[str, list[Recording]]], None]
    images: bool = False


def render_layout(
    layout: Layout,
    root: Path,
    settings: SyntheticSettings,
    workers: int = 1,
    overwrite: bool = False,
    advance: Callable[[int], object] | None = None,
) -> dict[str, dict[str, int]]:
    """Render a data set; leave a finished one as it is.

    Args:
        layout: the files on disk.
        root: folder of the data set, made if need be.
        settings: settings of the data set.
        workers: number of processes; it does not change a byte.
        overwrite: replace a rendered data set of other settings.
        advance: receives the number of frames whenever some are written; None shows a bar.

    Returns:
        "<split>/<modality>/<camera>" to its number of identities, tracklets and frames.

    Raises:
        InputError: the folder holds something else than this data set, another process renders
            there, or the layout cannot hold what ``settings`` ask for.
    """
    if settings.imbalance and not layout.images:
        raise InputError(
            f"imbalance: {settings.imbalance:g}, but layout {layout.name} has tracklets, which are "
            "not thinned out; expected 0, or --layout market1501"
        )
    root = Path(root)
    recordings = layout.plan(settings)
    counts = count(recordings)
    record = {
        "renderer": RENDERER,
        "layout": layout.name,
        "settings": settings.record(),
    }
    if _is_there(root, record, overwrite):
        logger.info("%s: already there", root)
        return counts
    with _alone_in(root):
        if not _is_there(root, record, overwrite):  # another process may have rendered it
            _clear(root, record, layout)
            versions = {"versions": {"numpy": np.__version__, "pillow": PIL.__version__}}
            write_json(root / RECORD, record | versions | {"finished": False})
            _write_frames(root, settings, recordings, workers, advance)
            layout.write_index(root, recordings)
            write_json(root / RECORD, record | versions | {"finished": True, "counts": counts})
    return counts


@contextlib.contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    with hold(root, "the data set", TASK):
        try:
            yield
        finally:  # the lock is no part of the data set
            (root / f".{TASK}.lock").unlink(missing_ok=True)


def _is_there(root: Path, record: dict, overwrite: bool) -> bool:
    """Tell whether a data set is rendered.

    Raises:
        InputError: the folder holds something else that is not to be replaced.
    """
    earlier = _read_record(root)
    if earlier is None:
        return False
    if record.items() <= earlier.items():
        return bool(earlier["finished"])
    same = earlier["layout"] == record["layout"]  # files of another layout are not ours to remove
    if overwrite and same:
        return False
    raise InputError(
        f"{root / RECORD}: rendered with {_difference(earlier, record)}; "
        f"choose another folder{' or pass --overwrite' if same else ''}"
    )


def _clear(root: Path, record: dict, layout: Layout) -> None:
    """Remove a data set of other settings."""
    earlier = _read_record(root)
    if earlier and not record.items() <= earlier.items():
        write_json(root / RECORD, earlier | {"finished": False})  # in case of a kill from now on
        _remove(root, layout.owned)


def _write_frames(
    root: Path,
    settings: SyntheticSettings,
    recordings: dict[str, list[Recording]],
    workers: int,
    advance: Callable[[int], object] | None,
) -> None:
    jobs = [recording for rows in recordings.values() for recording in rows]
    write = partial(_write_recording, root, settings)
    title, hidden = f"rendering {root}", advance is not None
    total = sum(len(job.files) for job in jobs)
    with tqdm(total=total, unit="frame", desc=title, disable=hidden) as bar:
        advance = advance or bar.update
        if workers > 1:
            with worker_processes(workers) as results:
                for done in results(write, jobs, 4):
                    advance(done)
        else:
            for job in jobs:
                advance(write(job))


def is_rendered(root: Path) -> bool:
    """Tell whether a folder holds a whole rendered data set, of whatever settings."""
    record = _read_record(root)
    return record is not None and record["finished"]


def count_frames(counts: dict[str, dict[str, int]]) -> int:
    """Add up the frames that :func:`count` counts."""
    return sum(cell["frames"] for cell in counts.values())


def count(recordings: dict[str, list[Recording]]) -> dict[str, dict[str, int]]:
    """Count identities, tracklets and frames by "<split>/<modality>/<camera>"."""
    table: dict[str, dict[str, int]] = {}
    seen: dict[str, set[int]] = {}
    for split, rows in recordings.items():
        for row in sorted(rows, key=lambda row: (row.walk.modality, row.walk.camid)):
            key = f"{split}/{MODALITIES[row.walk.modality]}/{row.camera}"
            cell = table.setdefault(key, {"identities": 0, "tracklets": 0, "frames": 0})
            seen.setdefault(key, set()).add(row.walk.pid)
            cell["identities"] = len(seen[key])
            cell["tracklets"] += len(row.tracklets)
            cell["frames"] += len(row.files)
    return table


def _read_record(root: Path) -> dict | None:
    """Read the record of a folder, finished or not; return None for a new or empty folder."""
    names = [entry.name for entry in root.iterdir()] if root.is_dir() else ["a file"]
    names = [name for name in names if not name.startswith(f".{TASK}.")]  # a lock
    if not root.exists() or not names:
        return None
    file = root / RECORD
    if not file.is_file():
        name = names[0]
        raise InputError(
            f"{root}: found {name} and no {RECORD}, so this was not rendered and stays as it is; "
            "expected a new or empty folder"
        )
    record = read_mapping(file, "the record of a rendered data set")
    settings = record.get("settings", {})
    if not isinstance(settings, dict):
        raise InputError(f"{file}: settings: found {shortened(settings)}; expected a mapping")
    if not isinstance(record.get("finished"), bool):
        found = shortened(record.get("finished"))
        raise InputError(f"{file}: finished: found {found}; expected true or false")
    # Records from before there were layouts lack both.
    return {"layout": "hitsz-vcm"} | record | {"settings": {"imbalance": 0.0} | settings}


def _difference(earlier: dict, wanted: dict) -> str:
    default = dataclasses.asdict(SyntheticSettings())
    old, new = (
        {"renderer": r.get("renderer"), "layout": r["layout"]} | default | r["settings"]
        for r in (earlier, wanted)
    )
    keys = [key for key in new if old.get(key) != new[key]]
    return ", ".join(f"{key} {old.get(key)} (asked for: {new[key]})" for key in keys)


def _remove(root: Path, owned: tuple[str, ...]) -> None:
    for name in owned:
        if (root / name).is_dir():
            shutil.rmtree(root / name)
        else:
            (root / name).unlink(missing_ok=True)


def _write_recording(root: Path, settings: SyntheticSettings, recording: Recording) -> int:
    camera = draw_camera(settings.site, recording.walk.camid, settings.difficulty)
    pixels = render_walk(settings, recording.walk)
    frames = [Image.fromarray(pixels[frame]) for frame in recording.frames]
    copies = list(zip(frames, recording.files, strict=True))
    if recording.gray:
        gray = [frame.convert("L") for frame in frames]
        copies += zip(gray, recording.gray, strict=True)
    for picture, file in copies:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_errors(path):
            picture.save(path, quality=camera.quality, subsampling=0)
    return len(recording.files)
