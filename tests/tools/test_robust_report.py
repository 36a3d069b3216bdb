"""tools/robust_report.py as a user runs it: weights in, one page out, in a process of its own."""

import base64
import json
import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from plugins.robustness.checks import all_checks
from plugins.robustness.report import read_card
from tests.helpers import commands
from tests.helpers.small_market import MARKET as CONFIG
from tests.helpers.small_market import render_market, save_weights
from tests.helpers.small_runs import ROOT, environment
from tests.helpers.user_code import USERS_PARTS

OPTIONS = {
    "MODEL.DEVICE": "cpu",
    "INPUT.SIZE_TEST": "[32,16]",
    "DATALOADER.NUM_WORKERS": "0",
    "ATTACK.QUERIES": "4",
    "ATTACK.STEPS": "2",
    "ATTACK.BATCH": "4",
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> Path:
    return render_market(tmp_path_factory.mktemp("images"), test_ids=3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    options = [word for pair in OPTIONS.items() for word in pair]
    return save_weights(tmp_path_factory.mktemp("weights"), CONFIG, options)


TOOL = ROOT / "tools/robust_report.py"


def command(weights: Path, *flags: str, **changes) -> list[str]:
    options = OPTIONS | {"MODEL.WEIGHTS": str(weights)}
    options |= {key.replace("__", "."): str(value) for key, value in changes.items()}
    words = [word for pair in options.items() for word in pair]
    return [str(TOOL), "--config-file", str(CONFIG), *flags, *words]


@pytest.fixture
def here(monkeypatch, run_tool, datasets):
    """A function: runs the tool in this process; gives its exit status and what it printed."""
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    return lambda arguments: run_tool(*arguments)


@pytest.mark.slow
def test_a_report_is_written_and_goes_on_where_it_was(datasets, weights, tmp_path):
    out = tmp_path / "report"
    # Alone in a folder: modules that are loaded from beside it count as code of the user.
    own = ("--plugins", shutil.copy(USERS_PARTS, tmp_path))
    arguments = command(weights, "--level", "quick", "--out", str(out), *own)
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment(datasets),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    page = out / "Market1501_Q2G.html"
    card = json.loads((out / "Market1501_Q2G.json").read_text())
    # ATTACK.STEPS 2: an untrained network under hardly an attack.
    assert card["status"] in ("not established", "not robust")
    assert f"{page}: {card['headline']}\n" in done.stdout
    assert read_card(out / "Market1501_Q2G.json") == card
    assert card["data"]["queries"] == 4 and card["level"]["name"] == "quick"
    ids = [check["id"] for check in card["checks"]]
    ids.remove("enough_queries")  # of the user's module
    assert ids == [check.id for check in all_checks()]
    groups = [check["group"] for check in card["checks"]]
    assert groups == sorted(groups)
    for name, attack in card["attacks"].items():
        assert card["worst"]["Rank-1"]["value"] <= attack["Rank-1"]["value"], name
        assert attack["recipe"]["steps"] == (20 if name == "RankMargin" else 2)
    assert (out / "Market1501_Q2G.md").read_text().startswith("# Robustness of Baseline")
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page.read_text())
    assert len(pictures) == 6  # three charts, three examples
    assert all(Image.open(BytesIO(base64.b64decode(png))).width > 300 for png in pictures)

    again = commands.run([sys.executable, *arguments], env=environment(datasets))
    assert again.returncode == 0, again.stderr
    assert json.loads((out / "Market1501_Q2G.json").read_text()) == card


@pytest.mark.parametrize(
    ("flags", "changes", "words"),
    [
        (("--level", "quik"), {}, "--level: 'quik'; expected quick"),
        (("--level", "fast"), {"MODEL__WEIGHTS": "''"}, "--level: 'fast'; expected "),
        ((), {"ATTACK__SIDE": "gallery"}, "ATTACK.SIDE"),
        ((), {"ATTACK__EPS": 0.0}, "ATTACK.EPS"),
        ((), {"ATTACK__NORM": "l2", "ATTACK__EPS": 60.0}, "SMA: 2 steps of 1 reach 2"),
        ((), {"ATTACK__SAVE_IMAGES": "sets"}, "ATTACK.SAVE_IMAGES: 'sets'; a report saves none"),
        ((), {"ATTACK__SEED": 2**32}, "ATTACK.SEED: 4294967296; expected 0 to 4294967295"),
        ((), {"MODEL__WEIGHTS": "''"}, "MODEL.WEIGHTS"),
        ((), {"MODEL__WEIGHTS": "nowhere.pth"}, "nowhere.pth: no such file"),
        (("--undefended", "nobody.pth"), {}, "nobody.pth: no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(flags, changes, words, here, tmp_path, weights):
    arguments = command(weights, "--out", str(tmp_path / "report"), *flags, **changes)
    status, _, errors = here(arguments)
    assert status == 2
    errors = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and words in errors[0]
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_the_same_weights_are_no_undefended_model_and_no_other_seed(here, tmp_path, weights):
    copy = tmp_path / "copy.pth"
    torch.save(torch.load(weights), copy)  # another file
    for flags in (("--undefended", str(copy)), ("--other-seeds", str(weights))):
        arguments = command(weights, "--out", str(tmp_path / "report"), *flags)
        status, _, errors = here(arguments)
        assert status == 2
        assert f"error: {' '.join(flags)}: the same weights as MODEL.WEIGHTS {weights}" in errors
    assert not (tmp_path / "report").exists()
