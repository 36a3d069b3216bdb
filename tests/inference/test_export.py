"""An exported file gives the features of its run, or is not written."""

import io
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from plugins.config import setup_cfg
from plugins.data.frames import resize_frame
from plugins.errors import InputError, RunFailed
from plugins.inference import Embedder
from plugins.inference.export import build, export, read_threshold
from plugins.inference.export.check import draw_inputs, expected_features
from plugins.inference.export.onnx_file import onnx_bytes, onnx_runner
from plugins.inference.export.program import PixelsToFeatures, trace
from plugins.registry import TEMPORAL, known
from plugins.synthetic import SyntheticSettings
from plugins.synthetic.frame import render_walk
from plugins.synthetic.plan import Walk
from tests.helpers.run_folders import clip_run, stock_run
from tests.helpers.small_models import awaken

CHANNELS, SIZE = 32, (6, 3)


class Part(nn.Module):
    """A temporal part after a trunk that only widens the channels."""

    def __init__(self, name: str) -> None:
        super().__init__()
        small = ["MODEL.BACKBONE.FEAT_DIM", CHANNELS, "MODEL.BACKBONE.DEPTH", "18x"]
        # 4: one of STIG's LSTMs runs over stripes, another over T + 2, and T is 2 once.
        stig = ["MODEL.TEMPORAL.STIG.STRIPES", 4, "MODEL.TEMPORAL.STIG.SOURCE", "layer4"]
        transformer = ["MODEL.TEMPORAL.TRANSFORMER.DIM", 8, "MODEL.TEMPORAL.TRANSFORMER.HEADS", 2]
        self.part = awaken(TEMPORAL.get(name)(setup_cfg(opts=[*small, *stig, *transformer])))
        self.widen = nn.Conv2d(3, CHANNELS, 1)

    def forward(self, images: Tensor, modalities: Tensor) -> Tensor:
        maps = self.widen(images.flatten(0, 1) / 255).relu().unflatten(0, images.shape[:2])
        if hasattr(self.part, "norm"):
            return self.part(maps, modalities)
        return self.part(maps)


class Branching(nn.Module):
    """A temporal part as a user might write it: what it does depends on a value."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(1, 3, 4)) if maps.sum() > 0 else maps.amax(dim=(1, 3, 4))


class Looping(nn.Module):
    """A temporal part as a user might write it: a loop over the frames in Python."""

    def __init__(self, cfg: object = None) -> None:
        super().__init__()

    def forward(self, maps: Tensor) -> Tensor:
        frames, mean = maps.mean(dim=(3, 4)).unbind(dim=1), 0
        for frame in frames:
            mean = 0.5 * mean + frame
        return mean


class Eigenvalues(nn.Module):
    """A part whose operator ONNX does not have."""

    def forward(self, images: Tensor, modalities: Tensor | None = None) -> Tensor:
        return torch.linalg.eigvalsh(images[:, 0] + images[:, 0].mT)


def images_of(items: int, frames: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (items, frames, 3, *SIZE)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return [images, (torch.arange(items) + 1) % 2]


def whole(network: nn.Module, **changes: bool) -> PixelsToFeatures:
    return PixelsToFeatures(network, **{"flip": False, "unit": True, "bgr": False} | changes).eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", known(TEMPORAL))
@torch.no_grad()
def test_every_temporal_part_takes_clips_of_any_length(name):
    torch.manual_seed(0)
    module = whole(Part(name))
    program = trace(module, images_of(2, 4), free_frames=True)
    # The test of the command has STIG's ONNX file.
    run = onnx_runner(onnx_bytes(program, {})) if name != "STIG" else None
    for frames in (1, 2, 6, 10):
        for items in (1, 3):
            inputs = images_of(items, frames, seed=frames)
            expected = module(*inputs)
            torch.testing.assert_close(program.module()(*inputs), expected, atol=1e-5, rtol=0)
            if run is not None:
                found = torch.from_numpy(run(*(each.numpy() for each in inputs)))
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
@torch.no_grad()
def test_a_program_does_not_depend_on_an_earlier_one():
    """Dynamo keeps the code of each scan; its guards would hold the LSTM to 3 frames."""
    for name, frames in (("STIG", 4), ("TemporalLSTM", 3)):
        module = whole(Part(name))
        program = trace(module, images_of(2, frames), free_frames=True).module()
    images = images_of(2, 5)
    torch.testing.assert_close(program(*images), module(*images), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Embedder:
    return Embedder(clip_run(tmp_path_factory.mktemp("clips"), MODEL__TEMPORAL__NAME="TemporalGeM"))


@pytest.mark.slow
def test_a_stock_model_is_exported_with_its_options_and_without_its_classifier(tmp_path):
    opts = ["TEST.FLIP.ENABLED", True, "MODEL.DEVICE", "cpu"]
    embedder = Embedder(stock_run(tmp_path), opts=opts)
    kinds = [".onnx", ".pt2"]
    exported = export(embedder, kinds, color="BGR", threshold={"threshold": 0.4})
    assert exported.difference < 1e-6 and not exported.note

    extra = {"metadata.json": ""}
    program = torch.export.load(io.BytesIO(exported.files[".pt2"]), extra_files=extra)
    about = json.loads(extra["metadata.json"])
    assert about == exported.metadata
    assert (about["color"], about["size"], about["layout"][1]) == ("BGR", [32, 16], "channels")
    assert (about["modalities"], about["threshold"]) == ({}, {"threshold": 0.4})
    assert about["weights"] == embedder.network["weights"]
    assert not [name for name in program.state_dict if name.endswith("heads.weight")]

    (images,) = draw_inputs(embedder, 3, 1, seed=5)
    found = program.module()(images.flip(1)).detach().numpy()
    frames = [image.permute(1, 2, 0).numpy() for image in images]
    np.testing.assert_allclose(found, embedder.arrays(frames).features, atol=1e-5)
    of_onnx = onnx_runner(exported.files[".onnx"])(images.flip(1).numpy())
    np.testing.assert_allclose(of_onnx, found, atol=1e-5)
    with_red_first = program.module()(images).detach().numpy()
    assert np.abs(with_red_first - found).max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_a_part_that_fixes_the_number_of_frames_is_exported_with_that_number(clips, monkeypatch):
    monkeypatch.setitem(clips.model._modules, "temporal", Looping())
    exported = export(clips, [".pt2"])
    assert (exported.metadata["frames"], exported.metadata["frames_free"]) == (2, False)
    assert exported.note.startswith("Looping (temporal): torch.export cannot trace it: ")
    assert exported.difference < 1e-5
    assert "clips of 2 frames alone" in exported.summary()


@pytest.mark.slow
def test_a_part_that_cannot_be_traced_is_named(clips, monkeypatch):
    monkeypatch.setitem(clips.model._modules, "temporal", Branching())
    with pytest.raises(InputError, match=r"^Branching \(temporal\): torch.export cannot tra"):
        export(clips, [".pt2"])


@pytest.mark.slow
def test_a_part_without_operators_in_onnx_is_named():
    program = trace(whole(Eigenvalues()), [torch.rand(2, 3, 4, 4)], free_frames=False)
    with pytest.raises(InputError, match=r"^Eigenvalues \(network\): ONNX has no operator for "):
        onnx_bytes(program, {})


@pytest.mark.slow
@pytest.mark.parametrize("fault", [1e-3, float("nan")])
def test_a_file_with_other_features_than_the_model_is_refused(clips, monkeypatch, fault):
    monkeypatch.setattr(
        build, "deploy", lambda model: Faulty(model.backbone.stems[0][0].weight.new_tensor(fault))
    )
    with pytest.raises(RunFailed, match=r"not those of the model: they differ by .*nothing was wr"):
        export(clips, [".pt2"])


class Faulty(nn.Module):
    def __init__(self, fault: Tensor) -> None:
        super().__init__()
        self.fault = nn.Parameter(fault)

    def forward(self, images: Tensor, modalities: Tensor) -> Tensor:
        return images.mean(dim=(1, 3, 4)).repeat(1, 171)[:, :512] + self.fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "no number 'threshold'"),
        ('{"threshold": true}', "no number 'threshold'"),
        ('{"threshold": NaN}', "no number 'threshold'"),
        ('{"threshold": 1, "metric": "euclidean"}', "of distance euclidean, but the run's is cos"),
        ("{", "expected a file of the command threshold"),
    ],
)
def test_a_file_that_holds_no_threshold_of_the_model_is_refused(tmp_path, text, message):
    (tmp_path / "threshold.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_threshold(tmp_path / "threshold.json", "cosine")


@pytest.mark.parametrize("size", [(128, 64), (83, 41)])
def test_pillow_resizes_as_a_run_does_and_opencv_does_not(size):
    pixels = rendered_walk(*size)
    ours = resize_frame(torch.from_numpy(pixels).permute(2, 0, 1), (64, 32)).permute(1, 2, 0)
    pillow = Image.fromarray(pixels).resize((32, 64), Image.Resampling.BICUBIC)
    opencv = cv2.resize(pixels, (32, 64), interpolation=cv2.INTER_CUBIC)
    gaps = [np.abs(np.asarray(each).astype(int) - ours.numpy()) for each in (pillow, opencv)]
    assert gaps[0].mean() < 0.5 and gaps[0].max() < 10
    assert gaps[1].mean() > 1 and gaps[1].max() > 10


def rendered_walk(height: int, width: int) -> np.ndarray:
    settings = SyntheticSettings(height=height, width=width)
    return render_walk(settings, Walk(1, 0, 2, 0, 1, False, 0.5))[0]


def test_what_is_drawn_moves_the_features(clips):
    features = [expected_features(clips, draw_inputs(clips, 3, 2, seed=seed)) for seed in (0, 1)]
    assert (features[0] - features[1]).abs().max() > 1e-3
    assert (features[0][0] - features[0][1]).abs().max() > 1e-3


@pytest.mark.slow
def test_the_runtime_reports_its_use_to_nobody(tmp_path):
    """An official build makes an identifier of the machine below HOME when it is imported."""
    code = "from plugins.inference.export.onnx_file import onnx_runner\nonnx_runner(b'')"
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "onnxruntime" in done.stderr, "it refuses an empty file"
    assert not list(tmp_path.rglob("*onnxruntime*"))
