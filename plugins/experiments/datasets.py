"""Describe the data sets that the runs of an ablation train and are tested on."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from plugins.synthetic import (
    BUPT_CAMPUS,
    HITSZ_VCM,
    LAYOUTS,
    MARKET1501,
    SyntheticSettings,
    render_layout,
)
from plugins.synthetic.writers import RENDERER, count, count_frames, is_rendered

# Layout of a rendered set -> the registered data set that reads it.
READERS = {
    HITSZ_VCM.name: "HITSZVCM",
    BUPT_CAMPUS.name: "BUPTCampus",
    MARKET1501.name: "Market1501",
}


@dataclass(frozen=True)
class Dataset:
    """Describe a data set that runs train or are tested on.

    Attributes:
        name: name in the record.
        render: settings of a rendered set; None for a set in FASTREID_DATASETS.
        layout: of a rendered set, a name of ``plugins.synthetic.LAYOUTS``.
    """

    name: str
    render: SyntheticSettings | None
    layout: str = HITSZ_VCM.name

    def record(self) -> dict | None:
        """Return the settings of a rendered set that are not the default; they decide its bytes.

        A setting that the renderer learns later makes no result stale.
        """
        if self.render is None:
            return None
        default = dataclasses.asdict(SyntheticSettings())
        chosen = dataclasses.asdict(self.render).items()
        layout = {} if self.layout == HITSZ_VCM.name else {"layout": self.layout}
        return {"renderer": RENDERER} | layout | {k: v for k, v in chosen if v != default[k]}

    def root(self) -> Path:
        """Return the FASTREID_DATASETS of the runs; other settings have another folder."""
        root = Path(os.environ.get("FASTREID_DATASETS", "datasets"))
        if self.render is None:
            return root
        everything = [RENDERER, self.render.record()]
        digest = hashlib.sha256(json.dumps(everything).encode()).hexdigest()
        return root / "ablation" / f"{self.name}-{digest[:8]}"

    def folder(self) -> Path:
        """Return the folder of a rendered set."""
        return self.root() / LAYOUTS[self.layout].folder

    def frames(self) -> int:
        """Count the frames of a rendered set."""
        assert self.render is not None, f"{self.name}: is not rendered"
        return count_frames(count(LAYOUTS[self.layout].plan(self.render)))

    def prepare(self, workers: int, advance: Callable[[int], object] | None = None) -> None:
        """Render the set unless it exists; ``advance`` receives the numbers of frames."""
        if self.render is not None:
            layout = LAYOUTS[self.layout]
            render_layout(layout, self.folder(), self.render, workers, advance=advance)


def prepare(datasets: Iterable[Dataset], workers: int) -> None:
    """Render the sets that do not exist, with one bar for all of them."""
    rendered = {each.root(): each for each in datasets if each.render is not None}.values()
    missing = [each for each in rendered if not is_rendered(each.folder())]
    for each in rendered:
        if each not in missing:
            each.prepare(workers)  # says so
    if missing:
        total = sum(each.frames() for each in missing)
        with tqdm(total=total, unit="frame", desc="rendering data sets") as bar:
            for each in missing:
                each.prepare(workers, bar.update)


@dataclass(frozen=True)
class FurtherTest:
    """Describe a further test of every run after its training, beside the tests of its config.

    Attributes:
        name: name in the table and the record.
        parts: data sets whose scores are averaged, such as one for each site.
        options: values of config keys in the evaluation.
    """

    name: str
    parts: tuple[Dataset, ...]
    options: dict[str, object]

    def record(self) -> dict[str, object]:
        """Return the settings that decide the result besides the weights, flat."""
        record: dict[str, object] = {}
        for number, part in enumerate(self.parts, start=1):
            prefix = f"{number}." if len(self.parts) > 1 else ""
            record |= {f"{prefix}{key}": value for key, value in (part.record() or {}).items()}
        return record | self.options
