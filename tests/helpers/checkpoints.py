"""Read the checkpoints of a run and compare them, to the bit."""

from pathlib import Path

import torch


def checkpoint(folder: Path, name: str = "model_final.pth") -> dict:
    return torch.load(folder / name, weights_only=True)


def flat(tree, prefix: str = "") -> dict:
    """Leaves of nested dicts and lists by path."""
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, (list, tuple)):
        items = enumerate(tree)
    else:
        return {prefix: tree}
    return {k: v for key, value in items for k, v in flat(value, f"{prefix}/{key}").items()}


def assert_same(first: dict, second: dict) -> None:
    first, second = flat(first), flat(second)
    assert first.keys() == second.keys()
    for key, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[key]), key
        else:
            assert value == second[key], key
