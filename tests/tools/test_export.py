"""The command export: its file runs elsewhere, its refusals are one line before the work."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from plugins.inference import Embedder
from tests.helpers.run_folders import clip_run
from tests.helpers.small_runs import ROOT, environment

TOOL = ROOT / "tools/export.py"
# What a program of a user needs to run the file, and no more.
PACKAGES = ("numpy", "numpy.libs", "onnxruntime")
ELSEWHERE = """
import importlib.util, json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np, onnxruntime
for name in ("torch", "onnx", "plugins", "fastreid", "PIL"):
    assert importlib.util.find_spec(name) is None, name
session = onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
given = np.load(sys.argv[3])
inputs = [(each.name, each.type, each.shape) for each in session.get_inputs()]
features = session.run(None, {name: given[name] for name, _, _ in inputs})[0]
np.save(sys.argv[4], features)
about = session.get_modelmeta().custom_metadata_map
print(json.dumps([inputs, {name: json.loads(text) for name, text in about.items()}]))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return clip_run(tmp_path_factory.mktemp("run"))


@pytest.mark.slow
def test_the_file_gives_the_features_of_the_run_without_this_package(run, datasets, tmp_path):
    threshold = {"threshold": 0.25, "direction": "I2V", "metric": "cosine", "people": 3}
    (tmp_path / "threshold.json").write_text(json.dumps(threshold))
    # A plain state dict, whose config is named.
    weights = torch.load(run / "model_final.pth", weights_only=True)["model"]
    torch.save(weights, tmp_path / "plain.pth")
    out = tmp_path / "new/model.onnx"
    words = ["--threshold", tmp_path / "threshold.json", "--config-file", run / "config.yaml"]
    words += ["--out", out]
    done = subprocess.run(
        [sys.executable, TOOL, tmp_path / "plain.pth", *words],
        env=environment(datasets),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "takes uint8 RGB of 32 x 16\n" in done.stdout
    assert "largest difference of a feature from the model's: " in done.stdout

    site = tmp_path / "site"
    site.mkdir()
    for name in PACKAGES:
        spec = importlib.util.find_spec(name.removesuffix(".libs"))
        folder = Path(spec.origin).parents[1] / name
        if folder.exists():
            (site / name).symlink_to(folder)
    embedder = Embedder(run)
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 3, 32, 16), dtype=np.uint8)
    modalities = np.array([0, 1, 1])
    np.savez(tmp_path / "given.npz", images=images, modalities=modalities)
    files = [site, out, tmp_path / "given.npz", tmp_path / "found.npy"]
    # -I and -S: no packages but those of the folder.
    program = [sys.executable, "-I", "-S", "-c", ELSEWHERE, *map(str, files)]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    inputs, about = json.loads(done.stdout)
    assert inputs == [
        ["images", "tensor(uint8)", ["batch", "frames", 3, 32, 16]],
        ["modalities", "tensor(int64)", ["batch"]],
    ]
    assert about["schema"] == "fastreid-plugins/export"
    assert about["modalities"] == {"visible": 0, "infrared": 1}
    assert about["threshold"] == {"threshold": 0.25, "direction": "I2V", "metric": "cosine"}
    assert (about["frames"], about["frames_free"], about["datasets"]) == (2, True, ["HITSZVCM"])

    batch = {"images": torch.from_numpy(images).float(), "modalities": torch.from_numpy(modalities)}
    with torch.no_grad():
        expected = embedder.model(batch).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-5)
    assert str(ROOT).encode() not in out.read_bytes()  # nothing of this machine


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "m.txt"], "--out m.txt: expected a file *.onnx or *.pt2"),
        (["--out", "m.onnx", "--out", "n.onnx"], "--out n.onnx: m.onnx ends in .onnx, too"),
        (["--out", "m.onnx", "--opset", "9"], "--opset 9: expected 18 to 23"),
        (["--out", "m.pt2", "--opset", "20"], "--opset 20: expected it with an .onnx file alone"),
        (["--out", "m.onnx", "--color", "GBR"], "--color GBR: expected RGB or BGR"),
        (["--out", "there.onnx"], "--out there.onnx: it is there already; expected --overwrite"),
        (["--out", "m.onnx", "--threshold", "gone.json"], "gone.json: no such file"),
        (["--out", "m.onnx"], "empty: holds no checkpoint; expected one, such as model_final.pth"),
        (["--out", "m.onnx", "--weights", "gone.pth"], "gone.pth"),
        (
            ["--out", "m.onnx", "--weights", "there.onnx", "--config-file", "no.yaml"],
            "--config-file no.yaml: no such file",
        ),
    ],
)
def test_bad_input_is_one_line(run, run_tool, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    Path("there.onnx").touch()
    Path("empty").mkdir()
    (Path("empty") / "config.yaml").write_text((run / "config.yaml").read_text())
    status, printed, told = run_tool(TOOL, "empty", *words)
    assert (status, printed) == (2, "")
    assert message in told and told.startswith("error: ")
    assert len(told.splitlines()) == 1
    assert not Path("m.onnx").exists()


def test_without_its_packages_it_says_which_to_install(run_tool, monkeypatch, tmp_path):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "onnx" else there(name, *rest),
    )
    status, _, told = run_tool(TOOL, "run", "--out", str(tmp_path / "model.onnx"))
    assert status == 2
    assert told == "error: the export needs onnx: pip install onnx\n"
