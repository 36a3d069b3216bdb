"""Translate the names of weights in published files into those of fastreid's networks."""

import re

from torch import Tensor

# torchvision nests convolution, norm and activation of an inverted residual one level deeper.
NESTED = re.compile(r"(features\.\d+\.conv)\.(\d)\.(\d)\.(.*)")
PLAIN = re.compile(r"(features\.\d+\.conv)\.(\d)\.(.*)")


def mobilenet_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the weights of a MobileNetV2 as fastreid does; unknown names stay as they are.

    The function knows torchvision's names (``features.2.conv.1.0.weight``,
    ``features.18.0.weight``) and those of the network that fastreid copied
    (``features.2.conv.3.weight``), whose files call the last layer ``features.18`` or, as fastreid,
    ``conv``. The classifier is left out.

    >>> list(mobilenet_names({"features.2.conv.1.0.weight": None, "features.2.conv.3.bias": None}))
    ['features.2.conv.3.weight', 'features.2.conv.7.bias']
    """
    nested = any(NESTED.fullmatch(name) for name in weights)
    renamed = {}
    for name, value in weights.items():
        if name.startswith("classifier."):
            continue
        renamed[_of_torchvision(name, weights) if nested else name] = value
    return {re.sub(r"^features\.18\.", "conv.", name): value for name, value in renamed.items()}


def _of_torchvision(name: str, weights: dict[str, Tensor]) -> str:
    """Translate one of torchvision's names; a nested part has three modules in fastreid's row."""
    if match := NESTED.fullmatch(name):
        block, part, layer, rest = match.groups()
        return f"{block}.{3 * int(part) + int(layer)}.{rest}"
    if match := PLAIN.fullmatch(name):
        block, layer, rest = match.groups()
        # Behind the nested parts, one in the first block and two in all others, follow the linear
        # convolution and its norm.
        parts = 2 if f"{block}.1.0.weight" in weights else 1
        return f"{block}.{3 * parts + int(layer) - parts}.{rest}"
    return name
