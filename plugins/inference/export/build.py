"""Make the files of an exported model, and check them before one is written."""

import importlib.util
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from plugins.errors import InputError, RunFailed, one_line
from plugins.evaluation.views import FlipAverage
from plugins.inference.embedder import Embedder
from plugins.inference.export import check
from plugins.inference.export.metadata import COLORS, describe_export
from plugins.inference.export.onnx_file import OPSET, onnx_bytes, onnx_runner
from plugins.inference.export.program import FRAMES, ITEMS, PixelsToFeatures, trace
from plugins.modeling.deployed import deploy

ENDINGS = (".onnx", ".pt2")
PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # the extra "onnx"
METADATA_FILE = "metadata.json"  # in a .pt2


class Exported(NamedTuple):
    """Hold the files of a model.

    Attributes:
        files: contents by ending.
        metadata: what stands in each of them.
        difference: largest |difference| of an entry of a feature from the model's.
        note: why the files take clips of one length alone; empty if they take any.
    """

    files: dict[str, bytes]
    metadata: dict[str, Any]
    difference: float
    note: str = ""

    def summary(self) -> str:
        """Say in two lines or three what the files take, and how far their features are off."""
        height, width = self.metadata["size"]
        clips = f", clips of {self.metadata['frames']} frames alone" if self.note else ""
        lines = [
            f"takes {self.metadata['dtype']} {self.metadata['color']} of {height} x {width}{clips}",
            f"largest difference of a feature from the model's: {self.difference:.1e}",
        ]
        return "\n".join([*lines, *([f"frames are not free: {self.note}"] if self.note else [])])


def require_packages() -> None:
    """Raise InputError unless the packages that write and run an ONNX file are installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"the export needs {missing[0]}: pip install {' '.join(missing)}")


def export(
    embedder: Embedder,
    endings: Iterable[str] = ENDINGS[:1],
    *,
    opset: int = OPSET,
    color: str = COLORS[0],
    threshold: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.uint8,
) -> Exported:
    """Export the model of a run, and compare its features with those of the model.

    Clips may have any length, unless a part of the model fixes it: then that of the run.

    Args:
        embedder: has the model, on the CPU.
        endings: kinds of files, of ENDINGS.
        opset: version of the ONNX operators, one of OPSETS.
        color: order of the channels of the pixels, one of COLORS.
        threshold: from ``read_threshold``; None if there is none.
        dtype: type of the pixels.

    Raises:
        InputError: a part of the model cannot be exported; the message names the part.
        RunFailed: the features differ by more than TOLERANCE.
    """
    model = embedder.model
    module = PixelsToFeatures(
        deploy(model.model if isinstance(model, FlipAverage) else model),
        flip=embedder.cfg.TEST.FLIP.ENABLED,
        unit=embedder.cfg.TEST.METRIC == "cosine",
        bgr=color == "BGR",
    ).eval()
    note = ""
    for free in (True, False) if embedder.takes_clips else (False,):
        about = describe_export(
            embedder,
            color=color,
            free_frames=free,
            dtype=str(dtype).removeprefix("torch."),
            length=expected_length(embedder),
            threshold=threshold,
        )
        try:
            exported = attempt(embedder, module, about, endings, opset, dtype)
        except InputError as error:
            if not free:
                raise
            note = str(error)
            continue
        # Not "> TOLERANCE": a NaN must fail.
        if exported.difference <= check.TOLERANCE:
            return exported._replace(note=note)
        note = f"with a free number of frames the features differ by {exported.difference:.1e}"
    raise RunFailed(
        "the exported features are not those of the model: they differ by "
        f"{exported.difference:.1e}, expected {check.TOLERANCE:g} at most; nothing was written"
    )


def attempt(
    embedder: Embedder,
    module: PixelsToFeatures,
    about: dict[str, Any],
    endings: Iterable[str],
    opset: int,
    dtype: torch.dtype,
) -> Exported:
    """Export a model, with a free number of frames if ``about`` says so, and compare features.

    Raises:
        InputError: see :func:`export`.
    """
    free = about["frames_free"]
    frames = FRAMES if free else embedder.clip_length
    program = trace(module, check.draw_inputs(embedder, ITEMS, frames, dtype), free)
    files, runners = build(program, about, endings, opset)
    difference = check.largest_difference(
        embedder, runners, check.FRAMES if free else [frames], bgr=module.bgr, dtype=dtype
    )
    return Exported(files, about, difference)


def expected_length(embedder: Embedder) -> int:
    """Return the length of a feature, D."""
    inputs = check.draw_inputs(embedder, 1, 1)
    return check.expected_features(embedder, inputs).shape[1]


def build(
    program: ExportedProgram, about: Mapping[str, Any], endings: Iterable[str], opset: int
) -> tuple[dict[str, bytes], list[Callable[..., np.ndarray | Tensor]]]:
    """Write a traced model as files in memory; return them and functions that run them."""
    forget_sources(program.graph_module)
    files: dict[str, bytes] = {}
    runners: list[Callable[..., np.ndarray | Tensor]] = []
    for ending in endings:
        if ending == ".pt2":
            files[ending] = program_bytes(program, about)
            runners.append(torch.export.load(io.BytesIO(files[ending])).module())
        else:
            files[ending] = onnx_bytes(program, about, opset)
            runners.append(on_arrays(onnx_runner(files[ending])))
    return files, runners


def program_bytes(program: ExportedProgram, about: Mapping[str, Any]) -> bytes:
    """Write a traced model as the file of ``torch.export.load``, with METADATA_FILE in it."""
    file = io.BytesIO()
    try:
        torch.export.save(program, file, extra_files={METADATA_FILE: json.dumps(about)})
    except Exception as error:  # torch documents no types
        raise InputError(f"the model cannot be saved as a .pt2 file: {one_line(error)}") from error
    return file.getvalue()


def forget_sources(graph: torch.fx.GraphModule) -> None:
    """Remove from each node the lines of code that made it: they hold paths of this machine."""
    for module in graph.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


def on_arrays(run: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return a function of tensors for one of arrays."""

    def of_tensors(*tensors: Tensor) -> np.ndarray:
        return run(*(np.ascontiguousarray(tensor.numpy()) for tensor in tensors))

    return of_tensors


def by_ending(paths: Sequence[Any]) -> dict[str, Any]:
    """Return paths by their ending; raise InputError if two have the same, or one another."""
    found: dict[str, Any] = {}
    for path in paths:
        ending = path.suffix.lower()
        if ending not in ENDINGS:
            raise InputError(f"--out {path}: expected a file *{' or *'.join(ENDINGS)}")
        if ending in found:
            raise InputError(f"--out {path}: {found[ending]} ends in {ending}, too; expected one")
        found[ending] = path
    return found
