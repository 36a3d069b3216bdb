"""What a benchmark measures: its size, its threads, and what it is compared with."""

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Size and surroundings of a benchmark.

    Attributes:
        quick: small sizes and few rounds, minutes for all subjects.
        tiny: sizes of a test, seconds.
        threads: for what is measured with several numbers of threads.
        against: checkout of another version of this package, for what is compared with one.
        program: command that runs a command of this package by its name.
    """

    quick: bool = False
    tiny: bool = False
    threads: tuple[int, ...] = (1, 2)
    against: Path | None = None
    program: tuple[str, ...] = (sys.executable, "-m", "fastreid_plugins")

    @property
    def whole(self) -> bool:
        """Whether the sizes are those of real data sets."""
        return not (self.quick or self.tiny)

    @property
    def rounds(self) -> int:
        """How often each way runs."""
        return 1 if self.tiny else 2 if self.quick else 4
