"""Write small data sets, without the pictures that nobody decodes, and run the tool that checks."""

import json
import os
import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from plugins.data import ClipDataset, build_dataset
from plugins.data.datasets.manifest import COLUMNS
from tests.helpers.hitsz_tree import write_tree
from tests.helpers.image_trees import write_llcm, write_regdb, write_sysu

CHECK_DATA = str(Path(__file__).parents[2] / "tools" / "check_data.py")

ROWS = {
    "train": ["1 RGB/IR CQ1 8535", "10 RGB/IR LS3 12", "1 RGB/IR TSG2 7"],
    "train_auxiliary": ["2001 RGB/IR G25 90"],
    "query": ["3 IR CQ1 20", "3 RGB LS3 21", "4 RGB W4 22"],
    "gallery": ["3 RGB CQ1 20", "3 IR W4 23", "4 IR W4 22", "4 IR TSG1 24", "4 RGB TSG1 24"],
}


def write_bupt(root, rows=ROWS, frames=3):
    """The files without a picture, for nothing is decoded; "RGB" lies in the path on purpose."""
    folder = root / "RGB" / "BUPTCampus"
    folder.mkdir(parents=True)
    index = {}
    for name, lines in rows.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
        for pid, modality, camera, tracklet in map(str.split, lines):
            for kind in modality.split("/"):
                tracklets = index.setdefault(pid, {}).setdefault(kind, {}).setdefault(camera, {})
                stem = f"{pid}/{kind}/{camera}/{pid}_{kind}_{camera}_{tracklet}"
                tracklets[tracklet] = [f"{stem}_{frame}.jpg" for frame in range(frames)]
    (folder / "data_paths.json").write_text(json.dumps(index))
    return folder


HEADER = ",".join(COLUMNS)
LINES = [
    "a/0.jpg,ann,north,visible,1,0,train",
    "a/1.jpg,ann,north,visible,1,1,train",
    "a/2.jpg,ann,north,visible,1,10,train",
    "a/3.jpg,ann,south,infrared,1,2,train",
    "b/0.jpg,bob,south,infrared,7,5,query",
    "b/1.jpg,bob,north,visible,7,5,query",
    "b/2.jpg,bob,north,visible,8,5,gallery",
    "b/3.jpg,bob,south,infrared,8,5,gallery",
]


def write_manifest(root, lines=LINES, header=HEADER):
    file = root / "manifest.csv"
    file.write_text("\n".join([header, *lines]) + "\n")
    return file


def write_people(root, people=("ann", "bob", "cy"), cameras=("01", "02"), views=2):
    for shade, person in enumerate(people):
        (root / person).mkdir(parents=True)
        for camera in cameras:
            for view in range(views):
                picture = Image.new("RGB", (8, 16), (40 * shade, 0, 0))
                picture.save(root / person / f"{camera}_{view}.png")
    return root


# Data set -> writer of a small one, and the folder of all data sets that it lies in then.
SETS = {
    "HITSZVCM": (write_tree, ""),
    "BUPTCampus": (write_bupt, "RGB"),
    "SYSUMM01": (write_sysu, ""),
    "RegDB": (write_regdb, ""),
    "LLCM": (write_llcm, ""),
    "ManifestDataset": (write_manifest, ""),
}


def contents(name, root):
    """All tracklets of the set in ``root``, with paths below it, and the labels of training."""
    os.environ["FASTREID_DATASETS"] = root
    data = build_dataset(name)
    training = ClipDataset(
        data.train,
        lambda frames, _: torch.stack(frames),
        length=1,
        train=True,
        read=lambda _: torch.zeros(3, 2, 2, dtype=torch.uint8),
    )
    labels = [training[row]["targets"] for row in range(len(training))]
    items = [
        item._replace(img_paths=tuple(path.removeprefix(root) for path in item.img_paths))
        for item in [*data.train, *data.query, *data.gallery]
    ]
    return [tuple(item) for item in items], labels


def run_tool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["check_data.py", *arguments])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(CHECK_DATA, run_name="__main__")
    return stop.value.code
