"""Attacked items as a data set of files that ``ManifestDataset`` reads.

The images have the input size of the network: these pixels were attacked, not those of the camera.
Evaluated at the same INPUT.SIZE_TEST, without INPUT.CROP and without a frame cache, they pass
through the resize unchanged. Two differences remain: pixels are rounded to whole numbers, towards
the clean pixel, and a manifest supports one junk rule (camera) and one CMC (items). Clips are
stored in the order of INPUT.CLIP.SAMPLING segments, which reads them again whatever sampling took
them.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fastreid.config import CfgNode
from PIL import Image
from torch import Tensor

from plugins.attacks.budget import warn_once
from plugins.attacks.projections import to_uint8
from plugins.data.datasets.manifest import COLUMNS
from plugins.data.datasets.own_names import named
from plugins.data.datasets.tracklet import MODALITIES, is_image
from plugins.data.frames import read_frame
from plugins.errors import InputError
from plugins.robustness.results import Record
from plugins.robustness.task import RetrievalTask
from plugins.utils.io import require_fields, write_atomically, write_json, write_text

ATTACK = "attack.json"  # names the attack that the images are of


class AttackedSet:
    """A folder with ``manifest.csv``, ``attack.json`` and, losslessly, ``images/*.png``.

    Items that were not attacked are listed by the absolute paths of their own files. A tracklet of
    several clips (TEST.CLIPS) is stored such that the same TEST.CLIPS takes the same clips again.

    Attributes:
        manifest: path of the manifest, which is written last.
    """

    def __init__(
        self,
        folder: Path,
        cfg: CfgNode,
        items: Sequence[tuple],
        clip_rows: Tensor,
        dataset: Any = None,
    ):
        """Prepare; nothing is written yet.

        Args:
            folder: folder of this set, which is made.
            cfg: config, of which INPUT.CLIP.LENGTH and TEST.CLIPS are read.
            items: query + gallery.
            clip_rows: (M,) int64, the row of each test clip.
            dataset: set of the items, by whose own names people and cameras are listed; None for
                its numbers.
        """
        self._folder, self.manifest = folder, folder / "manifest.csv"
        self._images = is_image(items[0])
        self._items = [named(dataset, item) for item in items]
        self._length = 1 if self._images else cfg.INPUT.CLIP.LENGTH
        self._whole_tracklets = cfg.TEST.CLIPS == 0
        self._clips = clip_rows.bincount(minlength=len(items)).tolist()

    def add(self, clean: dict, attacked: dict) -> None:
        """Write the attacked images of a batch of whole rows."""
        (self._folder / "images").mkdir(parents=True, exist_ok=True)
        pixels = to_uint8(attacked["images"], clean["images"])
        frames = pixels.reshape(-1, *pixels.shape[-3:])
        for path, frame in zip(self._files(clean["rows"]), frames, strict=True):
            image = Image.fromarray(frame.permute(1, 2, 0).numpy())
            write_atomically(path, partial(image.save, format="PNG"))

    def read(self, batch: dict) -> dict:
        """Return the batch of whole rows with its images as their files hold them.

        Raises:
            InputError: a file is missing or damaged.
        """
        images = torch.stack([read_frame(str(path)) for path in self._files(batch["rows"])])
        return {**batch, "images": images.reshape(batch["images"].shape).to(batch["images"])}

    def _files(self, rows: Tensor) -> Iterator[Path]:
        """Yield the files of the frames of clips in rows (B,), B * T in that order."""
        counts: Counter[int] = Counter()
        for row in rows.tolist():
            for index in range(self._length):
                yield self._folder / self._path(row, self._number(row, counts[row], index))
            counts[row] += 1

    def write_manifest(self, task: RetrievalTask, rows: Tensor) -> Path:
        """List the items of a task, the rows (A,) by their attacked images.

        When queries are attacked, the other queries are left out.

        Raises:
            InputError: an image is missing.
        """
        attacked = set(rows.tolist())
        queries = rows if task.side == "query" else task.query_rows
        table = [
            line
            for split, ids in (("query", queries), ("gallery", task.gallery_rows))
            for row in ids.tolist()
            for line in self._lines(row, split, row in attacked)
        ]
        for path, *_ in table:
            if not (self._folder / path).is_file():
                raise InputError(
                    f"ATTACK.SAVE_IMAGES: {self._folder / path}: no such file; an image is saved "
                    "only while its batch is attacked: delete the attack's record in "
                    "OUTPUT_DIR/robustness to attack anew"
                )
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *table])
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text(self.manifest, text.getvalue())
        return self.manifest

    def begin(self, record: Record) -> None:
        """Prepare to save images, or to go on; those of another attack will be replaced."""
        if not self._is_of(record):
            record.forget_parts()  # their images are not here
            self.manifest.unlink(missing_ok=True)
            self._folder.mkdir(parents=True, exist_ok=True)
            write_json(self._folder / ATTACK, {"attack": record.key})

    def _is_of(self, record: Record) -> bool:
        file = self._folder / ATTACK
        return file.is_file() and require_fields(file, attack=str)["attack"] == record.key

    def require(self, record: Record) -> None:
        """Raise InputError unless the images are there and are those of a record's attack."""
        if not self.manifest.is_file():
            fault = f"{self.manifest}: no such file"
        elif not self._is_of(record):
            fault = f"{self._folder}: images of another attack"
        else:
            return
        raise InputError(
            f"ATTACK.SAVE_IMAGES: {fault}; the attack has ended, and saves images only while it "
            f"runs: delete {record.path} to attack anew, or name another folder"
        )

    def _lines(self, row: int, split: str, attacked: bool) -> list[tuple]:
        item = self._items[row]
        paths = [str(Path(path).absolute()) for path in item.img_paths]
        if attacked:
            paths = [self._path(row, frame) for frame in range(self._clips[row] * self._length)]
        tracklet = "" if self._images else row
        labels = (item.pid, item.camid, MODALITIES[item.modality], tracklet)
        return [(path, *labels, frame, split) for frame, path in enumerate(paths)]

    def _number(self, row: int, clip: int, index: int) -> int:
        """Number a frame of a clip within its tracklet, see ``plugins.data.clips.test_clips``."""
        if self._whole_tracklets:
            return clip * self._length + index
        return index * self._clips[row] + clip

    @staticmethod
    def _path(row: int, frame: int) -> str:
        return f"images/{row:06d}_{frame:04d}.png"


def row_of_files(attack: str) -> str:
    """Name the row of an attack whose images come from the files they were saved in."""
    return f"{attack} (files)"


def warn_of_fractions(cfg: CfgNode) -> None:
    """Warn, once, of a budget that files of whole gray levels cannot hold."""
    eps = cfg.ATTACK.EPS
    if cfg.ATTACK.NORM == "linf" and not float(eps).is_integer():
        warn_once(
            f"ATTACK.EPS: {eps:g} with ATTACK.SAVE_IMAGES: files hold whole gray levels, so that "
            f"saved images differ by {math.floor(eps)} at most; the rows "
            f"'{row_of_files('ATTACK')}' score the saved images"
        )
