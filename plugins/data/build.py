"""Build loaders from a config.

Batch sizes of a config count all processes together; a loader gives each process its share.
"""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence

from fastreid.config import CfgNode
from fastreid.data.samplers import InferenceSampler
from fastreid.utils import comm
from torch import Tensor
from torch.utils.data import BatchSampler

from plugins.config import check_value
from plugins.data.clips import ClipDataset
from plugins.data.corruptions import build_corruption, check_corruption
from plugins.data.datasets.base import ReidDataset
from plugins.data.datasets.build import build_dataset, datasets_root, training_items
from plugins.data.datasets.presence import check_command, require_frames
from plugins.data.datasets.splits import warn_of_faults
from plugins.data.datasets.unlisted import explain_emptiness, warn_of_unlisted
from plugins.data.frame_cache.store import FrameCache
from plugins.data.frames import frame_decoder
from plugins.data.loaders import DeviceLoader, make_loader
from plugins.data.transforms import build_clip_transforms, build_erasing
from plugins.errors import InputError
from plugins.protocol import SEARCHABLE, Direction, can_search, without_answer
from plugins.registry import SAMPLER, lookup

logger = logging.getLogger(__name__)

# Samplers of fastreid that ours replace without a change of meaning.
FASTREID_SAMPLERS = {
    "TrainingSampler": "ShuffleSampler",
    "NaiveIdentitySampler": "IdentitySampler",
}


def build_train_loader(cfg: CfgNode) -> DeviceLoader:
    """Build an endless loader of training batches.

    Its ``dataset`` is a :class:`ClipDataset`, its ``batch_sampler`` an ``EpochSampler``, whose
    ``position`` the trainer saves.

    Raises:
        InputError: from the data sets, the transforms, the frame cache or the sampler; or the
            processes cannot share SOLVER.IMS_PER_BATCH evenly.
    """
    ranks = comm.get_world_size()
    batch_size = share_batch(cfg, ranks)
    transform = build_clip_transforms(cfg, is_train=True)
    dataset = ClipDataset(
        training_items(cfg),
        transform,
        cfg.INPUT.CLIP.LENGTH,
        train=True,
        sampling=clip_sampling(cfg),
        stride=cfg.INPUT.CLIP.STRIDE,
        order=cfg.INPUT.CLIP.ORDER,
        read=frame_reader(cfg, is_train=True),
        erasing=build_erasing(cfg),
    )

    name = FASTREID_SAMPLERS.get(cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.SAMPLER_TRAIN)
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    sampler = lookup(SAMPLER, name, "DATALOADER.SAMPLER_TRAIN")(
        dataset.items,
        batch_size=batch_size,
        num_instances=cfg.DATALOADER.NUM_INSTANCE,
        seed=seed,
        rank=comm.get_rank(),
        world_size=ranks,
    )
    logger.info("Using training sampler %s, %d batches an epoch", name, sampler.batches_per_epoch)
    return make_loader(cfg, dataset, sampler)


def build_test_loader(cfg: CfgNode, dataset_name: str) -> tuple[DeviceLoader, ReidDataset]:
    """Build a loader of this process' share of the clips of query + gallery, in order.

    The ``rows`` of a batch are rows of query + gallery.

    Returns:
        (loader, data set). The shares are consecutive, may differ in length and may be empty, and
        the clips of a tracklet may lie in two of them.

    Raises:
        InputError: from the data set, the transforms, the frame cache or the corruption; TEST.CLIPS
            is negative; or no direction of the data set has queries and a gallery, or one has no
            query that could be answered.
    """
    check_corruption(cfg)
    data = build_dataset(dataset_name, "DATASETS.TESTS", cfg=cfg)
    if comm.is_main_process():
        data.show_test()
        warn_of_unlisted(data, dataset_name)
        warn_of_faults(data, dataset_name, cfg)
    items = [*data.query, *data.gallery]
    if not items:
        raise InputError(
            f"DATASETS.TESTS {dataset_name}: it has neither queries nor a gallery"
            f"{explain_emptiness(data)}"
        )
    if not can_search(data.directions()):
        raise InputError(
            f"DATASETS.TESTS {dataset_name}: {len(data.query)} queries, {len(data.gallery)} "
            f"gallery items, nothing to search; expected {SEARCHABLE}"
        )
    if names := without_answer(data.directions(), items):
        raise InputError(
            f"DATASETS.TESTS {dataset_name}: {names[0]}: no query sees its own person in the "
            "gallery; expected one that does, by another camera if the junk rule is 'camera'"
        )
    dataset = build_test_clips(cfg, data.query, data.gallery, data.directions())
    files = sorted(dataset.clip_paths())
    require_frames(data, dataset_name, files, "query", cfg, "DATASETS.TESTS")
    batch_size = max(1, cfg.TEST.IMS_PER_BATCH // comm.get_world_size())
    sampler = BatchSampler(InferenceSampler(len(dataset)), batch_size, drop_last=False)
    return make_loader(cfg, dataset, sampler), data


def build_test_clips(
    cfg: CfgNode,
    query: Sequence,
    gallery: Sequence,
    directions: Mapping[str, Direction],
    read: Callable[[str], Tensor] | None = None,
) -> ClipDataset:
    """Build the clips of query + gallery as the config tests them.

    Args:
        cfg: the config.
        query: items of a data set.
        gallery: items of the same set.
        directions: directions of the set.
        read: frame -> (3, h, w) uint8; None for :func:`frame_reader`.

    Raises:
        InputError: from the transforms, the frame cache or the corruption; or TEST.CLIPS is
            negative.
    """
    items = [*query, *gallery]
    return ClipDataset(
        items,
        build_clip_transforms(cfg, is_train=False),
        cfg.INPUT.CLIP.LENGTH,
        train=False,
        clips=cfg.TEST.CLIPS,
        sampling=clip_sampling(cfg),
        stride=cfg.INPUT.CLIP.STRIDE,
        order=cfg.INPUT.CLIP.ORDER,
        read=read or frame_reader(cfg, is_train=False),
        corruption=build_corruption(cfg, items, len(query), directions, datasets_root()),
    )


def frame_reader(cfg: CfgNode, is_train: bool) -> Callable[[str], Tensor]:
    """Return what reads a frame: a decoder, or the cache DATALOADER.FRAME_CACHE.

    Raises:
        InputError: the cache has no whole store of the input's size.
    """
    if not cfg.DATALOADER.FRAME_CACHE:
        names = cfg.DATASETS.NAMES if is_train else cfg.DATASETS.TESTS
        checks = " or ".join(check_command(name, cfg) for name in names)
        return functools.partial(_read_frame, frame_decoder(cfg), checks)
    height, width = cfg.INPUT.SIZE_TRAIN if is_train else cfg.INPUT.SIZE_TEST
    return FrameCache(cfg.DATALOADER.FRAME_CACHE, (height, width), datasets_root()).read


def _read_frame(decode: Callable[[str], Tensor], checks: str, path: str) -> Tensor:
    """Read a frame; of one that cannot be read the error says how to find all others."""
    try:
        return decode(path)
    except InputError as error:
        raise InputError(f"{error}; {checks} lists all that cannot be read") from error


def share_batch(cfg: CfgNode, processes: int) -> int:
    """Return the number of items of a training batch that each process gets.

    Raises:
        InputError: they cannot share SOLVER.IMS_PER_BATCH evenly.
    """
    if cfg.SOLVER.IMS_PER_BATCH % processes:
        raise InputError(
            f"SOLVER.IMS_PER_BATCH: {cfg.SOLVER.IMS_PER_BATCH} cannot be shared by {processes} "
            f"processes; expected a multiple of {processes}"
        )
    return cfg.SOLVER.IMS_PER_BATCH // processes


def clip_sampling(cfg: CfgNode) -> str:
    """Read INPUT.CLIP.SAMPLING.

    Raises:
        InputError: no sampling has that name, or it cannot take several clips.
    """
    name = cfg.INPUT.CLIP.SAMPLING
    check_value("INPUT.CLIP.SAMPLING", name)
    if name == "linspace" and cfg.TEST.CLIPS != 1:
        raise InputError(
            f"INPUT.CLIP.SAMPLING: linspace takes one clip of a tracklet, but TEST.CLIPS is "
            f"{cfg.TEST.CLIPS}; set TEST.CLIPS to 1, or the sampling to segments or window"
        )
    return name
