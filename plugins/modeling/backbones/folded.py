"""Restore an OSNet from an ONNX file whose batch normalizations were folded into convolutions.

An exporter folds a BatchNorm into the convolution before it: the file computes the same, and cannot
be trained, as the statistics are gone. Two steps restore them: convolutions and offsets of the file
go into fastreid's network, then every BatchNorm gets the statistics that it measures on images,
with an affine part that cancels them. In evaluation nothing changes; in training the network has
BatchNorm again.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastreid.modeling.backbones.osnet import OSBlock, OSNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from plugins.errors import InputError, one_line
from plugins.modeling.backbones.pretrained import check_weights
from plugins.modeling.backbones.trunks import OSNET
from plugins.utils.io import read_bytes, require_file


def read_osnet(path: Path) -> OSNet:
    """Read a folded OSNet, as deep-person-reid's export writes it, into fastreid's network.

    Its BatchNorms add the file's offsets and do nothing else: evaluate it, or ``renormalize`` it.

    Args:
        path: an ONNX file whose convolutions have the names of their modules.

    Raises:
        InputError: it is not an ONNX file, or not an OSNet of a width that fastreid knows.
    """
    weights = read_convolutions(path)
    width = weights.get("conv1.conv.weight", torch.empty(0)).shape[:1]
    depths = [depth for depth, channels in OSNET.channels.items() if (channels[0],) == width]
    if not depths:
        raise InputError(f"{path}: its first convolution is not that of an OSNet")
    # conv5 has as many channels as conv4.
    channels = list(OSNET.channels[depths[0]][:-1])
    network = OSNet([OSBlock] * 3, [2, 2, 2], channels, "BN").eval()
    for _, norm in norms_of(network):
        # So a norm divides by 1, and adds the offset of the file.
        _, variance = recorded_statistics(norm)
        variance.fill_(1 - norm.eps)
    state = network.state_dict()
    needed = {n: v for n, v in state.items() if n.endswith(".bias") or v.dim() == 4}
    check_weights(weights, needed, path)
    if unexpected := [name for name in weights if name not in needed]:
        raise InputError(
            f"{path}: not an OSNet {depths[0]}: {len(unexpected)} tensors fit no part, such as "
            f"{unexpected[0]}"
        )
    network.load_state_dict(state | weights)
    return network


def read_convolutions(path: Path) -> dict[str, Tensor]:
    """Read the convolutions of an ONNX file, by the names of torch's modules.

    Args:
        path: the file; a node "/conv2/conv2.0/conv1/conv/Conv" belongs to "conv2.0.conv1.conv".

    Returns:
        ``NAME.weight``, and for an offset ``NAME.bias`` if the file still has that name, otherwise
        ``bias`` of the folded BatchNorm.

    Raises:
        InputError: it is not an ONNX file.
    """
    nodes, tensors = read_graph(path)
    weights = {}
    for node in nodes:
        if node.op_type != "Conv":
            continue
        name = module_name(node.name)
        if len(node.input) < 2 or not all(each in tensors for each in node.input[1:]):
            raise InputError(f"{path}: the convolution {node.name} computes its weights")
        weights[f"{name}.weight"] = as_tensor(tensors[node.input[1]], f"{path}: {node.input[1]}")
        if len(node.input) > 2:
            offset = tensors[node.input[2]]
            weights[offset_name(name)] = as_tensor(offset, f"{path}: {node.input[2]}")
    return weights


def read_graph(path: Path) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Read the nodes of an ONNX file, and its constants by their names.

    Raises:
        InputError: it is not an ONNX file, or it is damaged.
    """
    import onnx  # of the extra "onnx"

    contents = read_bytes(path)
    try:
        model = onnx.load_model_from_string(contents)
        for tensor in model.graph.initializer:
            if onnx.external_data_helper.uses_external_data(tensor):
                place = onnx.external_data_helper.ExternalDataInfo(tensor).location
                require_file(path.parent / place)
        onnx.load_external_data_for_model(model, str(path.parent))
        constants = {
            each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer
        }
        return list(model.graph.node), constants
    except InputError:
        raise
    # A damaged file makes protobuf and numpy raise nearly anything.
    except Exception as error:
        raise InputError(f"{path}: not a readable ONNX file: {one_line(error)}") from error


def module_name(node: str) -> str:
    """Return the name of a node's module, also for its second and later calls.

    >>> module_name("/conv2/conv2.0/conv2b/conv2b.1/conv2/Conv")
    'conv2.0.conv2b.1.conv2'
    >>> module_name("/conv2/conv2.0/gate/fc1_3/Conv")
    'conv2.0.gate.fc1'
    """
    parts = node.strip("/").split("/")[:-1]
    # A sequence is named before its element, whose name begins with it.
    kept = [
        part
        for part, following in zip(parts, [*parts[1:], ""], strict=True)
        if not following.startswith(f"{part}.")
    ]
    if len(kept) > 1 and kept[-2] == "gate":
        kept[-1] = kept[-1].split("_")[0]
    return ".".join(kept)


def offset_name(convolution: str) -> str:
    """Return the name of a convolution's offset: its bias in a gate, elsewhere the BatchNorm's."""
    owner, _, _ = convolution.rpartition(".")
    return f"{convolution}.bias" if owner.endswith("gate") else f"{owner}.bn.bias"


def as_tensor(values: np.ndarray, source: str) -> Tensor:
    """Copy an array into a tensor.

    Args:
        values: the array.
        source: file and name, for the message.

    Raises:
        InputError: the array holds something else than floating-point numbers.
    """
    if values.dtype.kind != "f":
        raise InputError(f"{source}: holds {values.dtype}; expected floating-point numbers")
    return torch.from_numpy(values.copy())


def norms_of(network: nn.Module) -> list[tuple[str, _BatchNorm]]:
    """List the BatchNorms of a network, with their names."""
    return [(n, m) for n, m in network.named_modules() if isinstance(m, _BatchNorm)]


def recorded_statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return the buffers of the recorded mean and variance."""
    assert norm.running_mean is not None and norm.running_var is not None, "none are recorded"
    return norm.running_mean, norm.running_var


@torch.no_grad()
def renormalize(network: nn.Module, images: Tensor, batch_size: int = 32) -> None:
    """Give every BatchNorm the statistics of its input, without a change of its output.

    Mean and variance become the measured ones, gamma = old scale * sqrt(variance + eps), beta = the
    output for a mean input. A channel whose input never varies keeps its statistics.

    Args:
        network: its norms are changed; it is in evaluation mode, before and after.
        images: (N, 3, H, W), normalized as the network's training images.
        batch_size: number of images at a time.
    """
    assert not network.training, "statistics are measured in evaluation mode"
    # By norm, the number of values, their sum and the sum of their squares.
    sums: dict[_BatchNorm, list[Any]] = {norm: [0, 0.0, 0.0] for _, norm in norms_of(network)}

    def measure(norm: _BatchNorm, inputs: tuple[Tensor]) -> None:
        # In float64: a difference of large sums is to be taken.
        values = inputs[0].double().transpose(0, 1).flatten(1)
        sums[norm][0] += values.shape[1]
        sums[norm][1] = sums[norm][1] + values.sum(dim=1)
        sums[norm][2] = sums[norm][2] + values.square().sum(dim=1)

    hooks = [norm.register_forward_pre_hook(measure) for norm in sums]
    try:
        for batch in images.split(batch_size):
            network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for norm, (count, total, squares) in sums.items():
        old_mean, old_variance = recorded_statistics(norm)
        mean = total / count
        variance = squares / count - mean.square()
        varies = variance > 1e-12
        mean = torch.where(varies, mean, old_mean)
        variance = torch.where(varies, variance, old_variance)
        scale = norm.weight.double() / (old_variance.double() + norm.eps).sqrt()
        norm.bias.add_(scale * (mean - old_mean))
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        old_mean.copy_(mean)
        old_variance.copy_(variance)
