"""Loaders for CPU and GPU, on top of torch's DataLoader."""

from collections.abc import Iterator

import torch
from fastreid.config import CfgNode
from torch.utils.data import DataLoader, Sampler, default_collate

from plugins.data.clips import ClipDataset
from plugins.interrupts import shielded_workers


def collate(samples: list[dict]) -> dict:
    """Samples of a dataset as one batch; paths stay lists."""
    batch = {key: [sample[key] for sample in samples] for key in samples[0]}
    return {
        key: values if key == "img_paths" else default_collate(values)
        for key, values in batch.items()
    }


def to_device(batch: dict, device: torch.device | str) -> dict:
    """A batch whose tensors are on ``device``; pinned ones travel without waiting."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }


class CudaLoader:
    """A DataLoader whose batches are on a GPU; each travels there while its predecessor is used."""

    def __init__(self, loader: DataLoader, device: torch.device) -> None:
        """Wrap ``loader``, which pins its batches."""
        self.dataset = loader.dataset
        self.batch_sampler = loader.batch_sampler
        self._loader = loader
        self._device = device

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[dict]:
        """The loader's batches, on the device."""
        stream = torch.cuda.Stream(self._device)
        ahead = None
        for batch in self._loader:
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
            if isinstance(value, torch.Tensor):
                # The memory belongs to the other stream, which must not reuse it while we read.
                value.record_stream(current)
        return batch


def make_loader(
    cfg: CfgNode, dataset: ClipDataset, batch_sampler: Sampler
) -> DataLoader | CudaLoader:
    """A loader for MODEL.DEVICE with DATALOADER.NUM_WORKERS workers."""
    device = torch.device(cfg.MODEL.DEVICE)
    loader = DataLoader(
        dataset,
        batch_sampler=batch_sampler,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        # Of its own: each new iterator draws the workers' seeds, else from the global generator.
        generator=torch.Generator().manual_seed(max(cfg.SEED, 0)),
        **shielded_workers(cfg.DATALOADER.NUM_WORKERS),
    )
    return CudaLoader(loader, device) if device.type == "cuda" else loader
