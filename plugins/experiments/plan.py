"""An ablation: rows of config overrides, times seeds, all on one data set."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from plugins.errors import InputError
from plugins.registry import nearest
from plugins.synthetic import HITSZ_VCM, LAYOUTS, SyntheticSettings, render_layout
from plugins.synthetic.writers import RENDERER
from plugins.utils.io import file_digest

# Config keys that name a file of weights.
START_KEYS = ("MODEL.BACKBONE.PRETRAIN_PATH", "MODEL.WEIGHTS")


@dataclass(frozen=True)
class Dataset:
    """What all runs train and test on.

    Attributes:
        name: for the record.
        render: settings of a rendered set; None for one that lies in FASTREID_DATASETS.
        layout: of a rendered set, a name of ``plugins.synthetic.LAYOUTS``.
    """

    name: str
    render: SyntheticSettings | None
    layout: str = HITSZ_VCM.name

    def record(self) -> dict | None:
        """What decides the bytes of a rendered set: the settings that are not the default.

        A setting that the renderer learns later makes no result stale.
        """
        if self.render is None:
            return None
        default = dataclasses.asdict(SyntheticSettings())
        chosen = dataclasses.asdict(self.render).items()
        layout = {} if self.layout == HITSZ_VCM.name else {"layout": self.layout}
        return {"renderer": RENDERER} | layout | {k: v for k, v in chosen if v != default[k]}

    def root(self) -> Path:
        """The FASTREID_DATASETS of the runs; other settings have another folder."""
        root = Path(os.environ.get("FASTREID_DATASETS", "datasets"))
        if self.render is None:
            return root
        everything = [RENDERER, self.render.record()]
        digest = hashlib.sha256(json.dumps(everything).encode()).hexdigest()
        return root / "ablation" / f"{self.name}-{digest[:8]}"

    def prepare(self, workers: int) -> None:
        """Render the set unless it is there."""
        if self.render is not None:
            layout = LAYOUTS[self.layout]
            render_layout(layout, self.root() / layout.folder, self.render, workers)


@dataclass(frozen=True)
class Row:
    """One configuration of the grid.

    Attributes:
        name: also its folder's.
        description: for the table.
        overrides: config key to value, as this row alone sets them.
        options: config key to value, those that all rows share and the row's overrides.
        settings: config key to value, all that base config and ``options`` set.
        epochs: SOLVER.MAX_EPOCH.
        files: below the folder of all data sets, which decide what trains besides the data set.
    """

    name: str
    description: str
    overrides: dict[str, object]
    options: dict[str, object]
    settings: dict[str, object]
    epochs: int
    files: tuple[Path, ...] = ()

    def start(self) -> str | None:
        """Digest of the files of weights that training starts from; None if there are none."""
        names = (self.settings.get(key) for key in START_KEYS)
        return _digests(Path(str(name)) for name in names if name)


@dataclass(frozen=True)
class Ablation:
    """A file, read and checked.

    Attributes:
        file: the YAML file.
        name: of its logs and its results, the file's unless it is told another.
        config: path of the base config.
        dataset: of all runs.
        metrics: (direction, metric), the columns of the table.
        seeds: of every row.
        rows: by name, in the order of the file; the first is what the others are compared with.
    """

    file: Path
    name: str
    config: str
    dataset: Dataset
    metrics: tuple[tuple[str, str], ...]
    seeds: tuple[int, ...]
    rows: dict[str, Row]

    @property
    def folder(self) -> Path:
        """Of its logs, below those of all ablations: ``sadstrm/ablation``, project and file."""
        return Path(self.file.resolve().parent.name, self.name)

    @property
    def results(self) -> Path:
        """Where results are recorded; the table lies beside it."""
        return self.file.parent / "results" / f"{self.name}.json"

    def choose(self, rows: list[str] | None) -> list[Row]:
        """The named rows, in the order of the file; None for all.

        Raises:
            InputError: there is no such row.
        """
        for name in rows or []:
            if name not in self.rows:
                known = ", ".join(nearest(name, list(self.rows)))
                raise InputError(f"{self.file}: no row '{name}'; known: {known}")
        return [row for row in self.rows.values() if rows is None or row.name in rows]

    def wanted(self, row: Row) -> dict:
        """What a result of ``row`` must have been measured with; see :func:`difference`."""
        wanted = {
            "dataset": self.dataset.name,
            "render": self.dataset.record(),
            "overrides": row.overrides,
            "settings": row.settings,
        }
        # Weights that were trained anew, or images that were generated anew, differ by more than
        # rows do. Where they are not at hand any more, what was measured with them still counts.
        images = _digests(self.dataset.root() / file for file in row.files)
        found = {"start": row.start(), "images": images}
        return wanted | {name: digests for name, digests in found.items() if digests}


def _digests(files: Iterable[Path]) -> str | None:
    """Digests of those files that are there; None if none is."""
    there = [file for file in files if file.is_file()]
    return " ".join(_digest(file, file.stat().st_mtime_ns) for file in there) or None


@functools.lru_cache
def _digest(file: Path, changed: int) -> str:
    """Of a file; ``changed``, when it was written, makes a new one be read."""
    return file_digest(file)


def difference(found: dict, wanted: dict) -> list[str]:
    """What was measured otherwise than :meth:`Ablation.wanted` says.

    >>> difference({"dataset": "a", "render": {"seed": 0}}, {"dataset": "a", "render": {"seed": 1}})
    ['render.seed 0 (now 1)']
    """
    lines = {}
    for part, now in wanted.items():
        was = found.get(part)
        if not (isinstance(was, dict) and isinstance(now, dict)):
            if was != now:
                lines[part] = f"{part} {_shown(was)} (now {_shown(now)})"
            continue
        prefix = "render." if part == "render" else ""
        for key in {**was, **now}:
            if was.get(key) != now.get(key):
                text = f"{_shown(was.get(key))} (now {_shown(now.get(key))})"
                lines[prefix + key] = f"{prefix}{key} {text}"
    return list(lines.values())


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "given"
    return "unset" if value is None else str(value)
