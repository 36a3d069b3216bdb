"""The layout of BUPTCampus.

``DATA/<pid>/<IR|RGB>/<camera>/<pid>_<IR|RGB>_<camera>_<tracklet>_<frame>.jpg``, one
``data_paths.json`` that lists them all, and a row file for each of train, train_auxiliary, query
and gallery.

A camera sees visible light and infrared at once, so each visible walk has an infrared twin, aligned
to the pixel. There are no translated (FakeIR) frames.
"""

import dataclasses
import json
from itertools import chain
from pathlib import Path

from plugins.data.synthetic.plan import INFRARED, VISIBLE, Walk, plan_auxiliary, plan_split
from plugins.data.synthetic.settings import SyntheticSettings
from plugins.data.synthetic.writers import Layout, Recording
from plugins.errors import InputError

CAMERAS = ("LS3", "G25", "CQ1", "W4", "TSG1", "TSG2")
SPLITS = ("train", "auxiliary", "test")
_FOLDERS = {VISIBLE: "RGB", INFRARED: "IR"}
# In the real set nearly every training person has an auxiliary one beside it; half is enough here.
_AUXILIARY_SHARE = 0.5


def plan(settings: SyntheticSettings) -> dict[str, list[Recording]]:
    """The walks of each split with their places on disk; the twins stand side by side.

    Raises:
        InputError: there are more cameras than BUPTCampus has names for.
    """
    if settings.cameras - 1 > len(CAMERAS):  # the last one records no visible light
        raise InputError(
            f"synthetic data: cameras is {settings.cameras}, expected at most {len(CAMERAS) + 1} "
            f"in the layout bupt-campus, which has {len(CAMERAS)} that record visible light"
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
                recordings[split] += [_record(walk, number), _record(twin, number)]
    return recordings


def _record(walk: Walk, number: int) -> Recording:
    camera, kind = CAMERAS[walk.camid - 1], _FOLDERS[walk.modality]
    stem = f"DATA/{walk.pid}/{kind}/{camera}/{walk.pid}_{kind}_{camera}_{number}"
    files = tuple(f"{stem}_{frame}.jpg" for frame in range(1, walk.frames + 1))
    return Recording(walk, camera, range(walk.frames), files, (range(walk.frames),))


def write_index(root: Path, recordings: dict[str, list[Recording]]) -> None:
    """Write ``data_paths.json`` and the row files; what is no query is in the gallery."""
    index: dict = {}
    for row in chain.from_iterable(recordings.values()):
        cameras = index.setdefault(str(row.walk.pid), {}).setdefault(_kind(row), {})
        files = [file.removeprefix("DATA/") for file in row.files]
        cameras.setdefault(row.camera, {})[_number(row)] = files
    (root / "data_paths.json").write_text(json.dumps(index, indent=0) + "\n")

    train, auxiliary, test = (recordings[split] for split in SPLITS)
    queries = choose_queries(test)
    rows = {
        "train": [_line(row, "RGB/IR") for row in train if row.walk.modality == VISIBLE],
        "train_auxiliary": [
            _line(row, "RGB/IR") for row in auxiliary if row.walk.modality == VISIBLE
        ],
        "query": [_line(row, _kind(row)) for row in test if row in queries],
        "gallery": [_line(row, _kind(row)) for row in test if row not in queries],
    }
    for name, lines in rows.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")


def _kind(row: Recording) -> str:
    return _FOLDERS[row.walk.modality]


def _number(row: Recording) -> str:
    return row.files[0].split("_")[-2]


def _line(row: Recording, kind: str) -> str:
    return f"{row.walk.pid} {kind} {row.camera} {_number(row)}"


def choose_queries(test: list[Recording]) -> set[Recording]:
    """One walk of each person: visible and infrared in turn, and of each of the walks in turn."""
    queries = set()
    for pid in {row.walk.pid for row in test}:
        modality = (VISIBLE, INFRARED)[pid % 2]
        own = [row for row in test if (row.walk.pid, row.walk.modality) == (pid, modality)]
        queries.add(own[pid // 2 % len(own)])
    return queries


BUPT_CAMPUS = Layout(
    "bupt-campus",
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
