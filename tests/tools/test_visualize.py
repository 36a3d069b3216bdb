"""Pictures of a run, as a user draws them: from the folder of the run alone, in three formats."""

from pathlib import Path

import pytest
from PIL import Image

from plugins.data.datasets import HITSZVCM
from tests.helpers.run_folders import clip_run
from tests.helpers.small_runs import ROOT

TOOL = ROOT / "tools/visualize.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return clip_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def draw(run, datasets, run_tool, monkeypatch):
    """Draws a kind; gives what was printed."""
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))

    def call(kind: str, *words: object) -> str:
        status, printed, told = run_tool(TOOL, str(run), kind, *map(str, words))
        assert not status, told
        return printed

    return call


def test_ranked_clips_of_a_named_query(draw, datasets, tmp_path):
    data = HITSZVCM(root=str(datasets))
    infrared, _ = data.rows()
    query = [*data.query, *data.gallery][infrared[0]]
    out = tmp_path / "new/ranked.png"
    words = ["--pick", Path(query.img_paths[0]).parent, "--top", 2, "--frames", 2]
    printed = draw("ranked", *words, "--direction", "I2V", "--out", out)
    title = "Ranked clips of HITSZVCM I2V: infrared queries, visible gallery"
    assert printed.endswith(f"{out}: {title}\n")
    with Image.open(out) as picture:
        assert picture.text["Title"] == title and picture.width > 400


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        ("rankd", ["--out", "a.png"], "KIND 'rankd': expected"),
        ("ranked", ["--out", "a.jpg"], "--out a.jpg: expected a file *.png, *.pdf or *.svg"),
        ("ranked", ["--out", "a.png", "--top", "0"], "--top 0: expected 1 or more"),
        ("ranked", ["--out", "a.png"], "none: no such folder or file"),
        ("ranked", [], "the following arguments are required: --out"),
    ],
)
def test_mistakes_are_one_line(kind, words, message, run_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, printed, told = run_tool(TOOL, "none", kind, *words)
    assert (status, printed) == (2, "")
    assert told.startswith("error: ") and message in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())
