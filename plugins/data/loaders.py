"""Loaders for CPU and GPU, on top of torch's DataLoader.

Files, frame cache and workers have uint8 images. The transfer to the device makes them float32.

Legend: B clips of T frames of 3 x H x W.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from fastreid.config import CfgNode
from fastreid.utils.logger import log_first_n
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate

from plugins.data.clips import ClipDataset
from plugins.data.erasing import erase
from plugins.interrupts import shield_loader_worker, start_workers


def collate(samples: list[dict]) -> dict:
    """Join the samples of a dataset to a batch; paths stay lists."""
    batch = {key: [sample[key] for sample in samples] for key in samples[0]}
    return {
        key: values if key == "img_paths" else default_collate(values)
        for key, values in batch.items()
    }


def to_device(batch: dict, device: torch.device | str) -> dict:
    """Send a batch to a device, and make its uint8 images float32 there; pinned ones do not wait.

    Args:
        batch: ``images`` (B, T, 3, H, W) or (B, 3, H, W), uint8 or already of floating point;
            ``erased`` (B, 7) on the CPU, boxes of uint8 images to erase, see
            ``plugins.data.erasing``; any other tensors and values. It is not changed.
        device: where to.

    Returns:
        The batch without ``erased``.
    """
    sent = {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
        if key != "erased"
    }
    if sent["images"].dtype == torch.uint8:
        sent["images"] = sent["images"].float()
        if "erased" in batch:
            erase(sent["images"], batch["erased"])
    return sent


class DeviceLoader:
    """A DataLoader whose batches are on a device; a GPU gets the next batch while it uses one.

    Attributes:
        dataset: the DataLoader's.
        batch_sampler: the DataLoader's, an ``EpochSampler`` in training.
    """

    def __init__(self, loader: DataLoader, device: torch.device) -> None:
        """Wrap ``loader``, which pins its batches if the device is a GPU."""
        self.dataset = cast(ClipDataset, loader.dataset)
        self.batch_sampler: Any = loader.batch_sampler
        self._loader = loader
        self._device = device

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[dict]:
        """Yield the loader's batches, on the device."""
        if self._device.type == "cuda":
            yield from self._sent_ahead()
        else:
            for batch in start_workers(self._loader):
                yield to_device(batch, self._device)

    def _sent_ahead(self) -> Iterator[dict]:
        stream = torch.cuda.Stream(self._device)
        ahead = None
        for batch in start_workers(self._loader):
            with torch.cuda.stream(stream):
                sent = to_device(batch, self._device), stream.record_event()
            if ahead is not None:
                yield self._arrived(*ahead)
            ahead = sent
        if ahead is not None:
            yield self._arrived(*ahead)

    def _arrived(self, batch: dict, event: torch.cuda.Event) -> dict:
        current = torch.cuda.current_stream(self._device)
        current.wait_event(event)
        for value in batch.values():
            if isinstance(value, Tensor):
                # The memory belongs to the other stream, which must not reuse it while we read.
                value.record_stream(current)
        return batch


def loader_workers(cfg: CfgNode) -> int:
    """Read DATALOADER.NUM_WORKERS, but take no more workers than this process may use CPUs."""
    workers, cpus = cfg.DATALOADER.NUM_WORKERS, usable_cpus()
    if workers > cpus:
        text = f"DATALOADER.NUM_WORKERS: {workers}; taking {cpus}, the CPUs that there are to use"
        log_first_n(logging.INFO, text, name=__name__)
    return min(workers, cpus)


def usable_cpus() -> int:
    """Count the CPUs that this process may run on; 1 or more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def make_loader(
    cfg: CfgNode, dataset: ClipDataset, batch_sampler: Sampler | Sequence[list[int]]
) -> DeviceLoader:
    """Make a loader for MODEL.DEVICE; see ``loader_workers``."""
    device = torch.device(cfg.MODEL.DEVICE)
    loader = DataLoader(
        dataset,
        batch_sampler=batch_sampler,
        num_workers=loader_workers(cfg),
        collate_fn=collate,
        worker_init_fn=shield_loader_worker,
        pin_memory=device.type == "cuda",
        # Not the global generator: each new iterator draws the workers' seeds.
        generator=torch.Generator().manual_seed(max(cfg.SEED, 0)),
    )
    return DeviceLoader(loader, device)
