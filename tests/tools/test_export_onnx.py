"""The earlier name of the command `export`: the same file, of float32 pixels."""

import importlib.util
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from plugins.engine.checkpoint import Checkpointer
from plugins.modeling.meta_arch import SADSTRM
from tests.helpers import commands
from tests.helpers.small_models import small_batch, small_cfg

TOOL = Path(__file__).parents[2] / "tools/export_onnx.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a run: its config, its weights, and the model that they are of."""
    folder = tmp_path_factory.mktemp("run")
    size = ["INPUT.SIZE_TEST", [64, 32], "INPUT.CLIP.LENGTH", 2]
    cfg = small_cfg("MODEL.META_ARCHITECTURE", "SADSTRM", *size)
    torch.manual_seed(0)
    model = SADSTRM(cfg)
    model(small_batch())
    (folder / "config.yaml").write_text(cfg.dump())
    Checkpointer(model, str(folder)).save("model_final")
    return folder, model.eval()


def words_of(folder, *opts):
    words = ["--config-file", folder / "config.yaml", "--out", folder / "model.onnx", *opts]
    return [str(word) for word in words]


def export(folder, *opts):
    return commands.run([sys.executable, TOOL, *words_of(folder, *opts)])


@pytest.mark.slow
def test_the_file_gives_the_models_features_and_holds_no_attacker(run):
    folder, model = run
    uncounted = ["MODEL.SELF_ATTACK.CAM_WEIGHT", "0.1"]
    done = export(folder, "MODEL.WEIGHTS", folder / "model_final.pth", *uncounted)
    assert done.returncode == 0, done.stderr
    assert "largest difference" in done.stdout
    assert "export-onnx is deprecated: use export" in done.stderr

    # Another number of clips than it was exported with; one modality alone, too.
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    batch = small_batch()
    for rows in (slice(0, 1), slice(2, 7)):
        part = {name: batch[name][rows] for name in ("images", "modalities")}
        with torch.no_grad():
            expected = model(part)
        (features,) = session.run(None, {name: x.numpy() for name, x in part.items()})
        torch.testing.assert_close(torch.from_numpy(features), expected, atol=1e-6, rtol=0)

    weights = onnx.load(folder / "model.onnx").graph.initializer
    largest = max(weights, key=lambda weight: len(weight.raw_data))
    assert "layer4" in largest.name  # so names say whose a weight is
    for part in ("attack", "classifier", "heads.weight", "cross_modal"):
        assert not [weight.name for weight in weights if part in weight.name]
    values = sum(torch.tensor(list(weight.dims)).prod().item() for weight in weights)
    attacker = sum(parameter.numel() for parameter in model.attack.parameters())
    needed = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("attack"))
    assert values < needed + attacker / 2


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        ([], "MODEL.WEIGHTS: expected a checkpoint"),
        (["MODEL.WEIGHTS", "gone.pth"], "gone.pth"),
        (["--out", "tools", "MODEL.WEIGHTS", "gone.pth"], "--out tools: a folder; expected a file"),
        (
            ["--out", f"{__file__}/x.onnx", "MODEL.WEIGHTS", "gone.pth"],
            f"{__file__} is a file; exp",
        ),
        (["MODEL.META_ARCHITECTURE", "Baseline"], "MODEL.WEIGHTS"),
    ],
)
def test_bad_input_is_one_line(run, run_tool, opts, message):
    status, _, told = run_tool(TOOL, *words_of(run[0], *opts))
    assert status == 2
    assert message in told
    assert len(told.strip().splitlines()) == 1


@pytest.mark.slow
def test_without_its_packages_it_says_which_to_install(run_tool, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in ("onnx", "onnxruntime") else there(name, *rest),
    )
    status, _, error = run_tool(TOOL, "--config-file", "config.yaml", "--out", "model.onnx")
    assert status == 2
    assert error == "error: the export needs onnx: pip install onnx onnxruntime\n"
