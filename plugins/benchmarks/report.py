"""One report on robustness at the level ``quick``, beside another version of this package.

Both versions attack the same network, which today's version trains briefly on rendered people, and
read the same pictures. A report draws 200 queries; each version runs the checks that it has.
"""

import json
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from plugins.benchmarks.comparison import Comparison, Work
from plugins.benchmarks.settings import Settings
from plugins.benchmarks.startup import ROOT, run
from plugins.synthetic import MARKET1501, SyntheticSettings, render_layout

CONFIG = "Defense/synthetic/vanilla.yml"
PEOPLE = 24, 65  # of training and test; 3 cameras see each, so that there are 200 queries
EPS = 4.0  # gray levels
CLEAN, WORST = 0.5, 10.0  # points of Rank-1 by which the versions may differ

Rank1 = tuple[float, float]  # clean and worst, percent


def report(settings: Settings) -> list[Comparison]:
    """List the comparison of reports; none without another version."""
    if settings.against is None:
        return []
    people, queries = ((2, 4), 6) if settings.tiny else (PEOPLE, 200)
    return [
        Comparison(
            f"robustness report, level quick, {queries} queries, ResNet-18 at 64x32",
            partial(report_work, settings.program, settings.against, people, queries),
            target=2.0,
            note=f"the version in {settings.against}",
            rounds=1 if settings.quick or settings.tiny else 2,
            clock="children",
        )
    ]


def report_work(
    program: tuple[str, ...], against: Path, people: tuple[int, int], queries: int
) -> Work:
    """Prepare pictures and weights, and two reports on them, each in a new process and folder."""
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    made = SyntheticSettings(*people, max_frames=12, difficulty=0.1, nuisance=0.3)
    render_layout(MARKET1501, root / "Market-1501-v15.09.15", made)
    environment = {**os.environ, "FASTREID_DATASETS": str(root), "OMP_NUM_THREADS": "1"}
    options = ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0"]
    training = [*options, "TEST.EVAL_PERIOD", "8", "TEST.EXPECTED_RESULTS", "[]"]
    config = ["--config-file", f"configs/{CONFIG}"]
    run([*program, "train", *config, *training, "OUTPUT_DIR", str(root / "run")], ROOT, environment)
    options += ["MODEL.WEIGHTS", str(root / "run" / "model_final.pth"), "ATTACK.EPS", str(EPS)]
    options += ["ATTACK.QUERIES", str(queries)]

    def write(command: list[str], place: Path) -> Rank1:
        # A folder of its own, for a report takes up what is in its folder already.
        out = tempfile.mkdtemp(dir=folder.name)
        run([*command, *config, "--level", "quick", "--out", out, *options], place, environment)
        card = json.loads(Path(out, "Market1501_Q2G.json").read_text())
        return card["clean"]["Rank-1"]["value"], card["worst"]["Rank-1"]["value"]

    return Work(
        partial(write, [*program, "report"], ROOT),
        partial(write, [sys.executable, "tools/robust_report.py"], against),
        check_cards,
    )


def check_cards(ours: Rank1, theirs: Rank1) -> None:
    """Compare Rank-1; an attack draws its random start, and versions draw differently."""
    clean, worst = (abs(first - second) for first, second in zip(ours, theirs, strict=True))
    assert clean <= CLEAN, f"clean Rank-1 {ours[0]:.1f} and {theirs[0]:.1f}"
    assert worst <= WORST, f"worst Rank-1 {ours[1]:.1f} and {theirs[1]:.1f}"
