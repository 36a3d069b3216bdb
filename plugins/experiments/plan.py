"""Describe an ablation: rows of config overrides, times seeds, trained on one data set."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from plugins.errors import InputError
from plugins.experiments.datasets import Dataset, FurtherTest
from plugins.utils.io import file_digest
from plugins.utils.names import closest_names

# Config keys that name a file of weights.
START_KEYS = ("MODEL.BACKBONE.PRETRAIN_PATH", "MODEL.WEIGHTS")
# Parts of a record whose keys are config keys; those of others stand behind the part's name.
CONFIG_PARTS = ("overrides", "settings")


@dataclass(frozen=True)
class Row:
    """Describe one configuration of the grid.

    Attributes:
        name: also its folder's.
        description: for the table.
        overrides: config key to value, as this row alone sets them.
        options: config key to value, those that all rows share and the row's overrides.
        settings: config key to value, all that base config and ``options`` set.
        epochs: SOLVER.MAX_EPOCH.
        seeds: of its runs.
        tests: DATASETS.TESTS.
        plugins: modules and files of the user that every process of its runs imports.
        files: below the folder of all data sets, which decide what trains besides the data set.
    """

    name: str
    description: str
    overrides: dict[str, object]
    options: dict[str, object]
    settings: dict[str, object]
    epochs: int
    seeds: tuple[int, ...]
    tests: tuple[str, ...]
    plugins: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def start(self) -> str | None:
        """Compute the digest of the initial weights; return None without such files."""
        names = (self.settings.get(key) for key in START_KEYS)
        return _digests(Path(str(name)) for name in names if name)


@dataclass(frozen=True)
class Contrast:
    """Describe a comparison.

    Attributes:
        row: name of a row.
        against: name of the row that is subtracted.
        dataset: what both are tested on.
        metric: "I2V/mAP", or "mAP" for the mean over the directions.
    """

    row: str
    against: str
    dataset: str
    metric: str


@dataclass(frozen=True)
class Ablation:
    """Hold a checked file with the number of one seed in place of every "{seed}".

    Attributes:
        file: the YAML file.
        name: of its logs and its results, the file's unless it is told another.
        config: path of the base config.
        dataset: that all runs train on, and are tested on as their config says.
        metrics: (task, metric), the columns of the table; a task is a direction, or of several data
            sets "DATASET/DIRECTION".
        rows: by name, in the order of the file; the first is what the others are compared with.
        tests: by name, further data sets that every run is tested on.
        primary: the comparisons for which the ablation is made, named beforehand.
        at: reads the file as another seed has it.
    """

    file: Path
    name: str
    config: str
    dataset: Dataset
    metrics: tuple[tuple[str, str], ...]
    rows: dict[str, Row]
    tests: dict[str, FurtherTest]
    primary: tuple[Contrast, ...]
    at: Callable[[int], "Ablation"] = field(repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """The folder of its logs below those of all ablations, such as ``sadstrm/ablation``."""
        return Path(self.file.resolve().parent.name, self.name)

    @property
    def results(self) -> Path:
        """The file in which results are recorded; the table lies beside it."""
        return self.file.parent / "results" / f"{self.name}.json"

    def queries(self, row: str, seed: int) -> Path:
        """Return the file in which the results of each query of a run are recorded."""
        return self.results.with_name(f"{self.name}_queries") / f"{row}_seed{seed}.npz"

    def trained_on(self, row: Row) -> dict[str, str]:
        """Map each data set that a row's training tests to its name in the record."""
        if len(row.tests) == 1:
            return {row.tests[0]: self.dataset.name}
        return {name: name for name in row.tests}

    def tested_on(self) -> list[str]:
        """Names of all data sets that rows are tested on."""
        names = [name for row in self.rows.values() for name in self.trained_on(row).values()]
        return [*dict.fromkeys(names), *self.tests]

    def datasets(self) -> list[Dataset]:
        """List the data sets that a run of this seed needs."""
        return [self.dataset, *(part for test in self.tests.values() for part in test.parts)]

    def choose(self, rows: list[str] | None) -> list[Row]:
        """Return the named rows in the order of the file; None stands for all.

        Raises:
            InputError: there is no such row.
        """
        for name in rows or []:
            if name not in self.rows:
                known = ", ".join(closest_names(name, list(self.rows)))
                raise InputError(f"{self.file}: no row '{name}'; known: {known}")
        return [row for row in self.rows.values() if rows is None or row.name in rows]

    def wanted(self, row: Row) -> dict:
        """Return the settings that a result of ``row`` needs; see :func:`difference`."""
        wanted = {
            "dataset": self.dataset.name,
            "render": self.dataset.record(),
            "overrides": row.overrides,
            "settings": row.settings,
        }
        # Weights that were trained anew, or images that were generated anew, differ by more than
        # rows do. Where they are not at hand any more, what was measured with them still counts.
        images = _digests(self.dataset.root() / file for file in row.files)
        digests_now = {"start": row.start(), "images": images}
        return wanted | {name: digests for name, digests in digests_now.items() if digests}

    def stale(self, result: dict) -> list[str]:
        """List the settings of a recorded result of this seed that differ from the file.

        Tests that are not in the file, or no longer, make no result stale.
        """
        row = self.rows.get(result["row"])
        if row is None:
            return ["no such row"]
        tests = result.get("tests", {})
        recorded = result | {f"tests.{name}": tests.get(name) for name in self.tests}
        wanted = {f"tests.{name}": test.record() for name, test in self.tests.items()}
        return difference(recorded, self.wanted(row) | wanted)


def _digests(files: Iterable[Path]) -> str | None:
    """Compute the digests of the files that exist; return None if there is none."""
    there = [file for file in files if file.is_file()]
    return " ".join(_digest(file, file.stat().st_mtime_ns) for file in there) or None


@functools.lru_cache
def _digest(file: Path, changed: int) -> str:
    """Compute the digest of a file again when ``changed``, its time of writing, is another."""
    return file_digest(file)


def difference(found: dict, wanted: dict) -> list[str]:
    """List the settings of a measurement that differ from :meth:`Ablation.wanted`.

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
        prefix = "" if part in CONFIG_PARTS else f"{part}."
        for key in {**was, **now}:
            if was.get(key) != now.get(key):
                text = f"{_shown(was.get(key))} (now {_shown(now.get(key))})"
                lines[prefix + key] = f"{prefix}{key} {text}"
    return list(lines.values())


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "given"
    return "unset" if value is None else str(value)
