"""What follows a run's training: evaluations on further data sets, each in a process of its own.

A stage's folder, ``tests/NAME`` in that of the run, holds ``test.json``, what it was started with,
beside what ``tools/train_net.py --eval-only`` leaves.
"""

import keyword
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plugins.engine.defaults import EVALUATION
from plugins.errors import InputError
from plugins.experiments.datasets import READERS, Dataset, FurtherTest
from plugins.utils.io import read_json

TESTS, TEST_MARKER = "tests", "test.json"


@dataclass(frozen=True)
class Stage:
    """One evaluation of one run.

    Attributes:
        test: whose evaluation this is.
        part: the data set that it takes.
        name: of the test, and of several parts the part's number.
        folder: its OUTPUT_DIR.
    """

    test: FurtherTest
    part: Dataset
    name: str
    folder: Path

    def __str__(self) -> str:
        """As in messages."""
        return self.name

    def wanted(self) -> dict:
        """What its folder must have been started with."""
        return {"render": self.part.record(), "options": self.test.options}

    def started(self) -> bool:
        """Whether its folder was started with what is wanted now."""
        file = self.folder / TEST_MARKER
        return file.is_file() and read_json(file, "what a test was started with") == self.wanted()

    def finished(self) -> bool:
        """Whether its result is there."""
        return self.started() and (self.folder / EVALUATION).is_file()

    def command(self, train_net: Path, config: Path, weights: Path) -> list[str]:
        """The command line.

        Args:
            train_net: path of the training tool.
            config: of the run.
            weights: of the run.
        """
        tests = {"DATASETS.TESTS": [READERS[self.part.layout]]} if self.part.render else {}
        options = {
            **self.test.options,
            **tests,
            "MODEL.WEIGHTS": str(weights),
            "TEST.EXPECTED_RESULTS": [],
            "OUTPUT_DIR": str(self.folder),
        }
        words = [word for key, value in options.items() for word in (key, spelt(value))]
        tool = [sys.executable, str(train_net), "--config-file", str(config), "--eval-only"]
        return [*tool, *words]


def stages_of(tests: list[FurtherTest], run_folder: Path) -> list[Stage]:
    """All evaluations that follow a training: one for each part of each test."""
    stages = []
    for test in tests:
        names = [test.name]
        if len(test.parts) > 1:
            names = [f"{test.name}/{number}" for number in range(1, len(test.parts) + 1)]
        stages += [
            Stage(test, part, name, run_folder / TESTS / name)
            for part, name in zip(test.parts, names, strict=True)
        ]
    return stages


def plugin_words(plugins: Sequence[str]) -> list[str]:
    """Write the option that brings a user's parts; no words where there are none.

    >>> plugin_words(("mine.py", "pkg.parts")), plugin_words(())
    (['--plugins', 'mine.py,pkg.parts'], [])
    """
    return ["--plugins", ",".join(plugins)] if plugins else []


def spelt(value: object) -> str:
    """A config value on a command line, where yacs would read a bare '50' as a number.

    >>> spelt("STIG"), spelt("50"), spelt([1, 2])
    ('STIG', "'50'", '[1, 2]')
    """
    bare = isinstance(value, str) and value.isidentifier() and not keyword.iskeyword(value)
    return value if bare else repr(value)


def single(results: dict, where: Path) -> dict:
    """The blocks of the one data set of an evaluation.

    Raises:
        InputError: there are several.
    """
    if len(results) != 1:
        raise InputError(
            f"{where}: results of {', '.join(results)}; expected DATASETS.TESTS to name one"
        )
    return next(iter(results.values()))
