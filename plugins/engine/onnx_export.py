"""Export a trained visible-infrared model as an ONNX file: pixels in, features out."""

import importlib.util
import warnings
from pathlib import Path

import torch
from fastreid.config import CfgNode
from torch import Tensor

from plugins.engine.checkpoint import Checkpointer
from plugins.engine.trainer import Trainer
from plugins.errors import InputError
from plugins.modeling.deployed import Deployed
from plugins.modeling.meta_arch import VVIBaseline
from plugins.utils.io import write_atomically

PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # the extra "onnx"
# Of an entry of a feature of length 1; rounding of float32 moves those of a ResNet-50 by 1e-7.
TOLERANCE = 1e-5


def require_onnx() -> None:
    """Raise InputError unless the packages that write and run the file are installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"the export needs {missing[0]}: pip install {' '.join(missing)}")


def load_deployed(cfg: CfgNode) -> Deployed:
    """Load the model of MODEL.WEIGHTS on the CPU, without the parts that only training needs.

    Raises:
        InputError: the weights do not fit, or the meta-architecture is not a visible-infrared one.
    """
    model = Trainer.build_model(cfg)
    if not isinstance(model, VVIBaseline):
        raise InputError(
            f"MODEL.META_ARCHITECTURE: {type(model).__name__} cannot be exported here; "
            "expected VVIBaseline or SADSTRM"
        )
    Checkpointer(model).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    return Deployed(model)


def example_inputs(cfg: CfgNode, clips: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw clips (B, T, 3, H, W) in [0, 255], of the evaluated size, and mixed modalities (B,)."""
    generator = torch.Generator().manual_seed(seed)
    size = cfg.INPUT.CROP.SIZE if cfg.INPUT.CROP.ENABLED else cfg.INPUT.SIZE_TEST
    shape = (clips, cfg.INPUT.CLIP.LENGTH, 3, *size)
    return torch.rand(shape, generator=generator) * 255, torch.arange(clips) % 2


def export_onnx(model: Deployed, cfg: CfgNode, path: Path) -> None:
    """Write ``model`` to ``path`` with a free number of clips; T, H and W are the config's.

    Inputs of the file: ``images`` float32 and ``modalities`` int64, see :class:`Deployed`; output:
    ``features``.
    """
    clips = torch.export.Dim("clips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        program = torch.onnx.export(
            model,
            example_inputs(cfg, clips=2),
            input_names=["images", "modalities"],
            output_names=["features"],
            dynamic_shapes={"images": {0: clips}, "modalities": {0: clips}},
            verbose=False,
        )
    assert program is not None
    content = program.model_proto.SerializeToString()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(content))


def largest_difference(model: Deployed, cfg: CfgNode, path: Path) -> float:
    """Measure the largest |difference| of a feature between the file and ``model``."""
    import onnxruntime  # of the extra "onnx"

    images, modalities = example_inputs(cfg, clips=3, seed=1)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {"images": images.numpy(), "modalities": modalities.numpy()}
    (features,) = session.run(None, inputs)
    with torch.no_grad():
        return (torch.from_numpy(features) - model(images, modalities)).abs().max().item()
