"""Plan the stages after a training: evaluations of further data sets in their own process.

The folder of a stage, ``tests/NAME`` in that of the run, holds ``test.json``, the settings that it
was started with, beside the files of ``tools/train_net.py --eval-only``.
"""

import ast
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plugins.engine.output_folder import EVALUATION
from plugins.errors import InputError
from plugins.experiments.datasets import READERS, Dataset, FurtherTest
from plugins.experiments.records import read_marker, read_scores

TESTS, TEST_MARKER = "tests", "test.json"
STARTED_WITH = "what a test was started with"
PLAIN = re.compile(r"[\w./][\w./-]*")  # strings that a shell takes as they are


@dataclass(frozen=True)
class Stage:
    """Describe one evaluation of one run.

    Attributes:
        test: test that this evaluation is a part of.
        part: data set of the evaluation.
        name: name of the test, with the number of the part where there are several.
        folder: OUTPUT_DIR of the evaluation.
    """

    test: FurtherTest
    part: Dataset
    name: str
    folder: Path

    def __str__(self) -> str:
        """Return the name for messages."""
        return self.name

    def wanted(self) -> dict:
        """Return the settings that its folder must have been started with."""
        return {"render": self.part.record(), "options": self.test.options}

    def started(self) -> bool:
        """Tell whether its folder was started with the settings that are wanted now."""
        file = self.folder / TEST_MARKER
        return file.is_file() and read_marker(file, STARTED_WITH) == self.wanted()

    def finished(self) -> bool:
        """Tell whether its result exists; raise InputError for one that is damaged."""
        if not (self.started() and (self.folder / EVALUATION).is_file()):
            return False
        self.scores()
        return True

    def scores(self) -> dict:
        """Read what the evaluation found; raise InputError for a file that is damaged."""
        return read_scores(self.folder / EVALUATION)

    def command(self, train_net: Path, config: Path, weights: Path) -> list[str]:
        """Build the command line.

        Args:
            train_net: path of the training tool.
            config: config of the run.
            weights: checkpoint of the run.
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
    """List the evaluations that follow a training: one for each part of each test."""
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
    """Write a config value for a command line, where a bare '50' would be read as a number.

    >>> spelt("STIG"), spelt("logs/run-1"), spelt("50"), spelt([1, 2])
    ('STIG', 'logs/run-1', "'50'", '[1, 2]')
    """
    if isinstance(value, str) and PLAIN.fullmatch(value):
        try:
            ast.literal_eval(value)
        except (ValueError, SyntaxError):  # no number, no None, no True
            return value
    return repr(value)


def single(results: dict, where: Path) -> dict:
    """Return the blocks of the only data set of an evaluation.

    Raises:
        InputError: there are several data sets.
    """
    if len(results) != 1:
        raise InputError(
            f"{where}: results of {', '.join(results)}; expected DATASETS.TESTS to name one"
        )
    return next(iter(results.values()))
