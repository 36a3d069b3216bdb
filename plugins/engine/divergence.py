"""Handle a loss that is not finite: save the batch, and name the checkpoint to return to."""

import logging
from pathlib import Path

import torch
from fastreid.utils import comm

from plugins.engine.checkpoint import newest_first, read_checkpoint
from plugins.engine.steps import Diverged, Step
from plugins.errors import InputError, RunFailed
from plugins.utils.io import write_tensors

logger = logging.getLogger(__name__)

LARGEST_BATCH = 64 * 2**20  # bytes of images that are saved with their paths and labels


def failure_of(error: FloatingPointError, step: Step, folder: Path) -> RunFailed:
    """Save the batches of the iteration; return the error of the run, the same on all ranks.

    Args:
        error: what the step raised.
        step: holds the batches, as the loader gave them.
        folder: OUTPUT_DIR.
    """
    ranks = error.ranks if isinstance(error, Diverged) else [comm.get_rank()]
    losses = error.losses if isinstance(error, Diverged) else {}
    files = ", ".join(str(folder / batch_file(step.iter, rank)) for rank in ranks)
    kept = f"the batch is saved in {files}"
    if comm.get_rank() in ranks:
        try:
            write_tensors(folder / batch_file(step.iter, comm.get_rank()), about(step, losses))
        except (InputError, RunFailed) as refusal:
            kept = f"the batch is lost: {refusal}"
    good = last_good_checkpoint(folder)
    way_back = f"the last good checkpoint is {good}" if good else "there is no checkpoint before it"
    return RunFailed(f"{error}; {kept}; {way_back}", reported=not comm.is_main_process())


def batch_file(iteration: int, rank: int) -> str:
    """Name the file of a batch."""
    suffix = f"_rank{rank}" if comm.get_world_size() > 1 else ""
    return f"diverged_{iteration:07d}{suffix}.pth"


def about(step: Step, losses: dict[str, float]) -> dict:
    """Collect paths and labels of each batch, and the images if they are few."""
    images = sum(batch["images"].nbytes for batch in step.batches)
    left_out = {"images"} if images > LARGEST_BATCH else set()
    batches = [
        {
            key: value.detach().cpu() if isinstance(value, torch.Tensor) else value
            for key, value in batch.items()
            if key not in left_out
        }
        for batch in step.batches
    ]
    return {
        "iteration": step.iter,
        "epoch": step.epoch,
        "rank": comm.get_rank(),
        "losses": losses,
        "batches": batches,
    }


def last_good_checkpoint(folder: Path) -> Path | None:
    """Find the newest intact checkpoint of a folder whose weights are finite."""
    for path in newest_first(folder):
        try:
            weights = read_checkpoint(str(path))["model"].values()
        except InputError as error:
            logger.warning("%s", error)
            continue
        if all(w.isfinite().all() for w in weights if isinstance(w, torch.Tensor)):
            return path
        logger.warning("%s: its weights are not finite", path)
    return None
