"""A direction of tensors in memory and of any callable that gives features, without files.

Legend: Q queries, G gallery items, N = Q + G; T frames of 3 x H x W; D feature length.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from fastreid.config import CfgNode
from torch import Tensor, nn

from plugins.attacks import Adapter
from plugins.attacks.features import ImageFeatures, check_range, evaluated, float_images
from plugins.attacks.guides import check_side
from plugins.errors import InputError
from plugins.robustness.directions import SearchedDirection, inverted_flip
from plugins.robustness.fingerprint import fingerprint
from plugins.robustness.task import RetrievalTask
from plugins.utils.names import closest_names
from plugins.utils.values import shortened

KEYS = ("images", "targets", "camids", "modalities")  # of a side
EXACT = 2**53  # above that, not every whole number is a float


class ImageModel(nn.Module):
    """A callable that takes images, as a model that takes a batch."""

    def __init__(self, model: Callable[[Tensor], Tensor], device: torch.device) -> None:
        """Wrap ``model``, whose parameters, if it has any, become those of this module.

        Args:
            model: images, as the batches hold them, to features (B, D), differentiable.
            device: device of the images if the model has no parameters.
        """
        super().__init__()
        self.model = model
        # Adapters take the device of the first parameter.
        self.place = nn.Parameter(torch.zeros(0, device=device), requires_grad=False)
        if isinstance(model, nn.Module) and (own := next(model.parameters(), None)) is not None:
            self.place.data = torch.zeros(0, device=own.device)

    def forward(self, batch: dict) -> Tensor:
        """Return the features (B, D) of the images of a batch."""
        return ImageFeatures(self.model)({"images": batch["images"]})


class TensorDirection(SearchedDirection):
    """Queries and a gallery in memory, searched once."""

    def __init__(
        self, cfg: CfgNode, model: nn.Module, items: Mapping[str, Tensor], queries: int
    ) -> None:
        """Compute the clean features.

        Args:
            cfg: reads ATTACK, TEST.METRIC and TEST.FLIP.
            model: takes a batch.
            items: ``images``, ``targets``, ``camids``, ``modalities`` of N items; without
                ``camids`` no gallery item is junk.
            queries: Q, the number of items that are queries; the others are the gallery.
        """
        self.cfg, self._items, self._queries = cfg, items, queries
        self.adapter = Adapter(model, cfg)
        number, place = len(items["targets"]), next(model.parameters()).device
        rows = torch.arange(number)
        with torch.no_grad(), evaluated(model):
            features = torch.cat([self.adapter(batch).cpu() for batch in self.batches(rows)])
        has_cameras = "camids" in items
        self.task = RetrievalTask(
            "Q2G",
            rows[:queries].to(place),
            rows[queries:].to(place),
            features.to(place),
            items["targets"].to(place),
            items.get("camids", items["targets"]).to(place),
            metric=cfg.TEST.METRIC,
            junk="camera" if has_cameras else "none",
        )
        if not len(self.task.valid_queries()):
            raise InputError(
                "robustness_report: no query has its person in the gallery"
                + (", seen by another camera" if has_cameras else "")
            )
        digest = hashlib.sha256(features.contiguous().numpy().tobytes())
        for name in sorted(items):
            digest.update(items[name].cpu().contiguous().numpy().tobytes())
        self.fingerprint = fingerprint(
            cfg, model, (), tensors=digest.hexdigest(), **self.task.settings
        )

    def batches(self, rows: Tensor) -> Sequence[dict]:
        """Return rows in batches of ATTACK.BATCH."""
        return [
            {**{name: values[part] for name, values in self._items.items()}, "rows": part}
            for part in rows.cpu().split(self.cfg.ATTACK.BATCH)
        ]

    def mirrored(self) -> "TensorDirection":
        """Compute the features anew with TEST.FLIP inverted."""
        return TensorDirection(
            inverted_flip(self.cfg), self.adapter.model, self._items, self._queries
        )


def join_sides(queries: Mapping[str, Any], gallery: Mapping[str, Any]) -> dict[str, Tensor]:
    """Check two sides and join them, the queries first.

    Args:
        queries: ``images`` (Q, 3, H, W) or (Q, T, 3, H, W) in [0, 255]; ``targets`` (Q,) persons;
            optionally ``camids`` (Q,) and ``modalities`` (Q,), 1 for infrared.
        gallery: likewise; with ``camids`` and ``modalities`` where the queries have them.

    Raises:
        InputError: a side is no mapping; an entry is missing on one side, unknown, of another kind
            or length, or the images of the two sides have other sizes or are not in [0, 255].
    """
    joined = {}
    sides = {
        "queries": checked_side("queries", queries),
        "gallery": checked_side("gallery", gallery),
    }
    for key in KEYS:
        first, second = (side.get(key) for side in sides.values())
        if first is None and second is None:
            continue
        if first is None or second is None:
            raise InputError(f"robustness_report: '{key}' is on one side only; expected on both")
        if first.shape[1:] != second.shape[1:]:
            raise InputError(
                f"robustness_report: {key} of the queries are {tuple(first.shape)}, of the gallery "
                f"{tuple(second.shape)}; expected the same but for the first number"
            )
        joined[key] = torch.cat([first.cpu(), second.cpu()])
    return float_images(joined)


def checked_side(name: str, side: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the entries of a side as tensors.

    Args:
        name: "queries" or "gallery", for the message.
        side: see ``join_sides``.

    Raises:
        InputError: see ``join_sides``.
    """
    if not isinstance(side, Mapping):
        raise InputError(
            f"robustness_report: {name}: found {type(side).__name__}; expected a mapping with "
            f"{', '.join(KEYS)}"
        )
    for key in side:
        if key not in KEYS:
            known = ", ".join(closest_names(str(key), list(KEYS)))
            raise InputError(f"robustness_report: {name}: no key '{key}'; known: {known}")
    for key in ("images", "targets"):
        if side.get(key) is None:
            raise InputError(f"robustness_report: {name} have no '{key}'; found {', '.join(side)}")
    checked = {
        key: value if key == "images" else labels(f"{key} of the {name}", value, key)
        for key, value in side.items()
        if value is not None
    }
    check_side(name, checked, "images")
    check_range(float_images(checked)["images"], f"images of the {name}")
    return checked


def labels(name: str, values: Any, key: str) -> Tensor:
    """Return whole numbers as a tensor (N,).

    Args:
        name: of the values, for the message.
        values: tensor, array or list.
        key: entry of a side; "modalities" are 0 or 1.

    Raises:
        InputError: the values are something else.
    """
    expected = "0 (visible) or 1 (infrared)" if key == "modalities" else "whole numbers"
    said = f"expected {expected}, one for each item"
    try:
        found = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"robustness_report: {name} are {shortened(values)}; {said}") from None
    if found.dim() != 1 or found.is_complex() or found.dtype == torch.bool:
        shape = tuple(found.shape)
        raise InputError(f"robustness_report: {name} are {found.dtype} {shape}; {said}")
    if found.is_floating_point():
        wrong = ~(found.trunc() == found) | (found.abs() > EXACT)  # NaN is wrong, too
    else:
        wrong = torch.zeros(len(found), dtype=torch.bool)
    if key == "modalities":
        wrong = wrong | ((found != 0) & (found != 1))
    if wrong.any():
        raise InputError(f"robustness_report: {name} hold {found[wrong][0].item():g}; {said}")
    return found
