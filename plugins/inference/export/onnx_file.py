"""Turn a traced model into the bytes of an ONNX file, and run such a file."""

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from plugins.errors import InputError
from plugins.inference.export.program import owner_of, quiet

# Versions of the ONNX operators that torch can write, and the one it writes by itself.
OPSETS, OPSET = range(18, 24), 20
AXES = ("batch", "frames")
# In a message of torch's exporter.
UNTRANSLATED = re.compile(r"OpOverload\(op='([^']+)'")


def require_opset(opset: int) -> None:
    """Raise InputError for a version of the operators that cannot be written."""
    if opset not in OPSETS:
        raise InputError(f"--opset {opset}: expected {OPSETS[0]} to {OPSETS[-1]}")


def onnx_bytes(program: ExportedProgram, metadata: Mapping[str, Any], opset: int = OPSET) -> bytes:
    """Write a traced model as an ONNX file.

    Args:
        program: of ``images`` and, unless it takes images alone, ``modalities``.
        metadata: goes into the file's metadata; each value as JSON.
        opset: one of OPSETS.

    Returns:
        The file. Its output is ``features``.

    Raises:
        InputError: the exporter has no such operators for the model.
    """
    try:
        with quiet():
            written = torch.onnx.export(
                program,
                input_names=list(program.graph_signature.user_inputs),
                output_names=["features"],
                opset_version=opset,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(untranslated(program, str(error))) from error
    assert written is not None, "a traced model gives an ONNX program"
    model = written.model_proto
    (found,) = (each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    if found != opset:
        raise InputError(f"--opset {opset}: this model needs {found}; expected --opset {found}")
    for value in (*model.graph.input, *model.graph.output):
        for size, name in zip(value.type.tensor_type.shape.dim, AXES, strict=False):
            if size.HasField("dim_param"):
                size.dim_param = name
    for key, content in metadata.items():
        model.metadata_props.add(key=key, value=json.dumps(content))
    data: bytes = model.SerializeToString()
    return data


def untranslated(program: ExportedProgram, message: str) -> str:
    """Say which operator ONNX lacks, and which part of the model has it."""
    found = UNTRANSLATED.findall(message)
    if not found:
        return f"the model cannot be written as ONNX: {' '.join(message.split())[:300]}"
    operator = found[-1]
    with quiet():
        graphs = [program.graph, program.run_decompositions().graph]
    nodes = (node for graph in graphs for node in graph.nodes)
    targets = (operator, f"{operator}.default")
    owner = next((owner_of(node) for node in nodes if str(node.target) in targets), "the model")
    return f"{owner}: ONNX has no operator for {operator}; expected others, or a .pt2 file"


def onnx_runner(content: bytes) -> Callable[..., np.ndarray]:
    """Return a function that computes features (B, D) by an ONNX file, on the CPU.

    Its arguments are the arrays of the file's inputs, in their order.
    """
    # Its official builds tell Microsoft of their use, unless this is set before the import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # of the extra "onnx"

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(*arrays: np.ndarray) -> np.ndarray:
        (features,) = session.run(None, dict(zip(names, arrays, strict=True)))
        return features

    return run
