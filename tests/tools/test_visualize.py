"""Pictures of a run, as a user draws them: from the folder of the run alone, in three formats."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from plugins.data.datasets import HITSZVCM
from plugins.inference import Embedder
from plugins.visualization import KINDS
from tests.helpers.run_folders import clip_run
from tests.helpers.small_runs import ROOT, environment

TOOL = ROOT / "tools/visualize.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return clip_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def extracted(run, datasets) -> Path:
    """Features of the data set, as ``extract`` writes them."""
    path = run / "test.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(datasets))
        Embedder(run).dataset("HITSZVCM").save(path)
    return path


@pytest.fixture
def draw(run, datasets, run_tool, monkeypatch):
    """Draws a kind; gives what was printed."""
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))

    def call(kind: str, *words: object) -> str:
        status, printed, told = run_tool(TOOL, str(run), kind, *map(str, words))
        assert not status, told
        return printed

    return call


@pytest.mark.slow
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


HEADS = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "ending", "words", "title"),
    [
        ("ranked", ".svg", ["--pick", "worst", "--queries", 1], "Ranked clips of HITSZVCM V2I: v"),
        ("distances", ".pdf", [], "Distances of HITSZVCM: one person and two"),
        ("tsne", ".svg", ["--people", 2, "--seed", 3], "t-SNE of the features of HITSZVCM"),
        ("cameras", ".pdf", [], "Confusion between cameras: HITSZVCM V2I"),
        ("weights", ".png", ["--pick", "best"], "Weights of STIG over frames and cells"),
        ("gradcam", ".png", ["--pick", "random"], "Grad-CAM: the places that make a query similar"),
        (
            "attack",
            ".png",
            ["--attack", "SMA", "ATTACK.EPS", "4"],
            "Perturbations: SMA on pixels",
        ),
    ],
)
def test_every_kind_is_drawn_by_its_name(kind, ending, words, title, draw, extracted, tmp_path):
    out = tmp_path / f"{kind}{ending}"
    words = [*words, "--features", extracted, "--direction", "V2I"]
    assert f"{out}: {title}" in draw(kind, "--out", out, *words)
    assert out.read_bytes().startswith(HEADS[ending])
    assert kind in KINDS


@pytest.mark.slow
def test_a_process_of_its_own_writes_the_page(run, datasets, extracted, tmp_path):
    out = tmp_path / "new/page.html"
    words = [sys.executable, TOOL, run, "page", "--features", extracted, "--out", out]
    done = subprocess.run(
        [*map(str, words), "--queries", "1"],
        env=environment(datasets),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"{out}: all pictures of HITSZVCM\n")
    text = out.read_text(encoding="utf-8")
    assert text.count("<img ") == len(KINDS) + 2 and "not drawn" not in text
    assert [each.name for each in out.parent.iterdir()] == ["page.html"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["page", "--attack", "FNB"], "--attack: no ATTACK is named 'FNB'; known: FNA"),
        (
            ["page", "--direction", "I2X"],
            "direction 'I2X'; expected I2V or V2I, which HITSZVCM",
        ),
        (["ranked", "--pick", "x/y.jpg"], "x/y.jpg: no item of HITSZVCM; nearest: HITSZ-VCM/Test/"),
        (["weights", "--dataset", "HITZVCM"], "--dataset: no DATASET is named 'HITZVCM'"),
    ],
)
def test_mistakes_are_told_before_features_are_computed(
    words, message, run, datasets, run_tool, tmp_path, monkeypatch
):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    monkeypatch.setattr(Embedder, "dataset", lambda *_: pytest.fail("it computed features"))
    out = tmp_path / ("a.html" if words[0] == "page" else "a.png")
    status, printed, told = run_tool(TOOL, str(run), *words, "--out", str(out))
    assert (status, printed) == (2, "") and not out.exists()
    assert told.startswith("error: ") and message in told, told


@pytest.mark.slow
def test_features_of_another_network_are_refused(draw, extracted, run, run_tool, tmp_path):
    words = ["--features", extracted, "--out", tmp_path / "a.png", "TEST.FLIP.ENABLED", "True"]
    status, _, told = run_tool(TOOL, str(run), "distances", *map(str, words))
    assert (
        status == 2 and "features of other items or of another network; expected those of" in told
    )


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        ("rankd", ["--out", "a.png"], "KIND 'rankd': expected"),
        ("ranked", ["--out", "a.jpg"], "--out a.jpg: expected a file *.png, *.pdf or *.svg"),
        ("ranked", ["--out", "a.png", "--top", "0"], "--top 0: expected 1 or more"),
        ("ranked", ["--out", "a.png"], "none: no such folder or file"),
        ("page", ["--out", "a.png"], "--out a.png: expected a file *.html"),
        ("ranked", [], "the following arguments are required: --out"),
    ],
)
def test_mistakes_are_one_line(kind, words, message, run_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, printed, told = run_tool(TOOL, "none", kind, *words)
    assert (status, printed) == (2, "")
    assert told.startswith("error: ") and message in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())
