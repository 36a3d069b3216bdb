"""The layout of BUPTCampus.

``DATA/<pid>/<IR|RGB>/<camera>/<pid>_<IR|RGB>_<camera>_<tracklet>_<frame>.jpg``, one
``data_paths.json`` that lists them all, and a row file for each of train, train_auxiliary, query
and gallery.

A camera sees visible light and infrared at once, so each visible walk has an infrared twin, aligned
to the pixel. FakeIR holds the visible training frames in gray, where the real set has frames that a
network translated.
"""

import dataclasses
from pathlib import Path

from plugins.data.conversion import bupt_campus
from plugins.data.conversion.bupt_campus import CAMERA_NAMES, frame_stem
from plugins.data.conversion.item import Item
from plugins.errors import InputError
from plugins.synthetic.plan import INFRARED, VISIBLE, Walk, plan_auxiliary, plan_split
from plugins.synthetic.settings import SyntheticSettings
from plugins.synthetic.writers import Layout, Recording

SPLITS = ("train", "auxiliary", "test")
# In the real set nearly every training person has an auxiliary one beside it; half is enough here.
_AUXILIARY_SHARE = 0.5


def plan(settings: SyntheticSettings) -> dict[str, list[Recording]]:
    """List the walks of each split with their files; twins are neighbors in the list.

    Raises:
        InputError: there are more cameras than BUPTCampus has names for.
    """
    names = len(CAMERA_NAMES)
    if settings.cameras - 1 > names:  # the last one records no visible light
        raise InputError(
            f"synthetic data: cameras is {settings.cameras}, expected at most {names + 1} in the "
            f"layout bupt-campus, which has {names} that record visible light"
        )
    auxiliary = plan_auxiliary(settings, max(1, int(_AUXILIARY_SHARE * settings.train_ids)))
    walks = {
        "train": plan_split(settings, "train"),
        "auxiliary": auxiliary,
        "test": plan_split(settings, "test"),
    }
    recordings: dict[str, list[Recording]] = {split: [] for split in SPLITS}
    number = 0
    for split in SPLITS:
        for walk in walks[split]:
            if walk.modality == VISIBLE:
                number += 1
                twin = dataclasses.replace(walk, modality=INFRARED, twin=True)
                visible = _record(walk, number)
                if split != "test":
                    gray = tuple(file.replace("/RGB/", "/FakeIR/") for file in visible.files)
                    visible = dataclasses.replace(visible, gray=gray)
                recordings[split] += [visible, _record(twin, number)]
    return recordings


def _record(walk: Walk, number: int) -> Recording:
    stem = frame_stem(walk.pid, walk.modality, str(walk.camid), number)
    files = tuple(f"{stem}_{frame}.jpg" for frame in range(1, walk.frames + 1))
    camera = CAMERA_NAMES[str(walk.camid)]
    return Recording(walk, camera, range(walk.frames), files, (range(walk.frames),))


def write_index(root: Path, recordings: dict[str, list[Recording]]) -> None:
    """Write ``data_paths.json`` and the row files; test walks that are no queries are gallery."""
    queries = choose_queries(recordings["test"])
    items = []
    for split, rows in recordings.items():
        for row in rows:
            part = {"train": "train", "auxiliary": "train_auxiliary", "test": "gallery"}[split]
            part = "query" if row in queries else part
            walk = row.walk
            items.append(Item(part, str(walk.pid), str(walk.camid), walk.modality, row.files))
    bupt_campus.write_index(root, items)


def choose_queries(test: list[Recording]) -> set[Recording]:
    """Choose one walk of each person: a visible and an infrared one in turn, by its index."""
    queries = set()
    for pid in {row.walk.pid for row in test}:
        modality = (VISIBLE, INFRARED)[pid % 2]
        walks = [row for row in test if (row.walk.pid, row.walk.modality) == (pid, modality)]
        queries.add(walks[pid // 2 % len(walks)])
    return queries


BUPT_CAMPUS = Layout(
    "bupt-campus",
    "BUPTCampus",
    (
        "DATA",
        "data_paths.json",
        "train.txt",
        "train_auxiliary.txt",
        "query.txt",
        "gallery.txt",
    ),
    plan,
    write_index,
)
