"""From a config to data sets and loaders.

Batch sizes of a config count all processes together; a loader gives each process its share.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from fastreid.config import CfgNode
from fastreid.data.samplers import InferenceSampler
from fastreid.utils import comm
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from plugins.data.clips import SAMPLINGS, ClipDataset
from plugins.data.corruptions import build_corruption, check_corruption
from plugins.data.datasets.fastreid_sets import check_names, fixed_draws
from plugins.data.datasets.image_set import ImageSet
from plugins.data.datasets.protocol import SEARCHABLE, Protocol, can_search, without_answer
from plugins.data.datasets.reader_errors import explain
from plugins.data.datasets.unlisted import (
    explain_emptiness,
    warn_of_unlisted,
)
from plugins.data.datasets.video_dataset import VideoDataset
from plugins.data.datasets.wrapped import chain
from plugins.data.frame_cache.store import FrameCache
from plugins.data.frames import read_frame
from plugins.data.loaders import CudaLoader, make_loader
from plugins.data.transforms import build_clip_transforms
from plugins.errors import InputError
from plugins.registry import DATASET, SAMPLER, lookup

logger = logging.getLogger(__name__)

# fastreid's readers raise these for a file's name, or a line of a list, that they cannot parse.
MISREAD = (AttributeError, ValueError, LookupError)
# Samplers of fastreid that ours replace without a change of meaning.
FASTREID_SAMPLERS = {
    "TrainingSampler": "ShuffleSampler",
    "NaiveIdentitySampler": "IdentitySampler",
}


def datasets_root() -> str:
    """Folder of all data sets: FASTREID_DATASETS as it is now, or ``datasets``."""
    return os.getenv("FASTREID_DATASETS", "datasets")


def build_dataset(
    name: str,
    key: str = "DATASETS.NAMES",
    combineall: bool = False,
    cfg: CfgNode | None = None,
) -> VideoDataset | ImageSet:
    """The data set registered as ``name``, read from :func:`datasets_root`.

    Args:
        name: the registered name.
        key: the config key that holds the name, for the message.
        combineall: train on the test items too.
        cfg: where the set finds its own options, see ``VideoDataset.options``; None leaves them at
            their defaults.

    Raises:
        InputError: no such name, sets are inside each other, or the files are not there or not
            named as the set's.
    """
    reader = lookup(DATASET, name, key)
    if cfg is not None:
        chain(name, cfg, key)  # sets that are inside each other would be read for ever
    root = datasets_root()
    # fastreid's readers have no options.
    options = reader.options(cfg) if cfg is not None and hasattr(reader, "options") else {}
    if combineall:
        options["combineall"] = True
    if hasattr(reader, "directions"):
        return reader(root=root, **options)
    try:
        with fixed_draws(reader):
            data = ImageSet(reader(root=root, **options))
        check_names(data.images)
    except InputError:
        raise
    # What fastreid's readers raise when a folder is missing, or a file has another set's name.
    except (RuntimeError, OSError, AssertionError, *MISREAD) as error:
        if isinstance(error, MISREAD) or not str(error):
            why = f"a file in '{root}' is not named as this set names its images: {explain(error)}"
        else:
            why = f"{error}; set FASTREID_DATASETS to the folder of all data sets (now '{root}')"
        raise InputError(f"{key} {name}: {why}") from error
    return data


def build_train_loader(cfg: CfgNode) -> DataLoader | CudaLoader:
    """An endless loader of training batches.

    Its ``dataset`` is a :class:`ClipDataset`, its ``batch_sampler`` an ``EpochSampler``, whose
    ``position`` the trainer keeps.

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
        clip_length(cfg),
        train=True,
        sampling=clip_sampling(cfg),
        stride=cfg.INPUT.CLIP.STRIDE,
        read=frame_reader(cfg, is_train=True),
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


def build_test_loader(
    cfg: CfgNode, dataset_name: str
) -> tuple[DataLoader | CudaLoader, VideoDataset | ImageSet]:
    """Loader of this process' share of the clips of query + gallery, in order, and the data set.

    A batch's ``rows`` are rows of query + gallery.

    Returns:
        (loader, data set); the shares are consecutive, may differ in length and may be empty, and
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
            "gallery; expected one that does, by another camera where the rule for junk is 'camera'"
        )
    dataset = build_test_clips(cfg, data.query, data.gallery, data.directions())
    batch_size = max(1, cfg.TEST.IMS_PER_BATCH // comm.get_world_size())
    sampler = BatchSampler(InferenceSampler(len(dataset)), batch_size, drop_last=False)
    return make_loader(cfg, dataset, sampler), data


def build_test_clips(
    cfg: CfgNode, query: Sequence, gallery: Sequence, directions: Mapping[str, Protocol]
) -> ClipDataset:
    """Build the clips of query + gallery as the config tests them.

    Args:
        cfg: the config.
        query: items of a data set.
        gallery: items of a data set.
        directions: of the data set.

    Raises:
        InputError: from the transforms, the frame cache or the corruption; or TEST.CLIPS is
            negative.
    """
    items = [*query, *gallery]
    return ClipDataset(
        items,
        build_clip_transforms(cfg, is_train=False),
        clip_length(cfg),
        train=False,
        clips=clip_number(cfg),
        sampling=clip_sampling(cfg),
        stride=cfg.INPUT.CLIP.STRIDE,
        read=frame_reader(cfg, is_train=False),
        corruption=build_corruption(cfg, items, len(query), directions, datasets_root()),
    )


def frame_reader(cfg: CfgNode, is_train: bool) -> Callable[[str], Tensor]:
    """How an image file becomes a frame: decoded, or with DATALOADER.FRAME_CACHE from there.

    Raises:
        InputError: the cache has no whole store of the input's size.
    """
    if not cfg.DATALOADER.FRAME_CACHE:
        return frame_decoder(cfg)
    height, width = cfg.INPUT.SIZE_TRAIN if is_train else cfg.INPUT.SIZE_TEST
    return FrameCache(cfg.DATALOADER.FRAME_CACHE, (height, width), datasets_root()).read


def frame_decoder(cfg: CfgNode) -> Callable[[str], Tensor]:
    """Return :func:`read_frame` with the limit INPUT.MAX_PIXELS."""
    return partial(read_frame, max_pixels=cfg.INPUT.MAX_PIXELS)


def share_batch(cfg: CfgNode, processes: int) -> int:
    """Items of a training batch that each process gets.

    Raises:
        InputError: they cannot share SOLVER.IMS_PER_BATCH evenly.
    """
    if cfg.SOLVER.IMS_PER_BATCH % processes:
        raise InputError(
            f"SOLVER.IMS_PER_BATCH: {cfg.SOLVER.IMS_PER_BATCH} cannot be shared by {processes} "
            f"processes; expected a multiple of {processes}"
        )
    return cfg.SOLVER.IMS_PER_BATCH // processes


def training_items(cfg: CfgNode) -> list[tuple]:
    """Training items of all DATASETS.NAMES; of several, people and cameras bear the set's name."""
    names = cfg.DATASETS.NAMES
    items = []
    for name in names:
        data = build_dataset(name, combineall=cfg.DATASETS.COMBINEALL, cfg=cfg)
        if comm.is_main_process():
            data.show_train()
            warn_of_unlisted(data, name)
        if not data.train:
            raise InputError(
                f"DATASETS.NAMES {name}: it has no training items{explain_emptiness(data)}"
            )
        items += data.train if len(names) == 1 else [named(item, name) for item in data.train]
    return items


def named(item: Sequence, name: str) -> tuple:
    """``item`` with the person and the camera of another data set told apart."""
    paths, pid, camid, *rest = item
    return (paths, (name, pid), (name, camid), *rest)


def clip_length(cfg: CfgNode) -> int:
    """INPUT.CLIP.LENGTH.

    Raises:
        InputError: it is below 1.
    """
    if cfg.INPUT.CLIP.LENGTH < 1:
        raise InputError(f"INPUT.CLIP.LENGTH: {cfg.INPUT.CLIP.LENGTH}; expected 1 frame or more")
    return cfg.INPUT.CLIP.LENGTH


def clip_number(cfg: CfgNode) -> int:
    """TEST.CLIPS.

    Raises:
        InputError: it is negative.
    """
    if cfg.TEST.CLIPS < 0:
        raise InputError(
            f"TEST.CLIPS: {cfg.TEST.CLIPS}; expected 1, a larger number of clips, or 0 for all"
        )
    return cfg.TEST.CLIPS


def clip_sampling(cfg: CfgNode) -> str:
    """INPUT.CLIP.SAMPLING.

    Raises:
        InputError: no sampling has that name, or it does not know several clips.
    """
    name = cfg.INPUT.CLIP.SAMPLING
    if name not in SAMPLINGS:
        raise InputError(f"INPUT.CLIP.SAMPLING: '{name}'; expected {', '.join(SAMPLINGS)}")
    if name == "linspace" and cfg.TEST.CLIPS != 1:
        raise InputError(
            f"INPUT.CLIP.SAMPLING: linspace takes one clip of a tracklet, but TEST.CLIPS is "
            f"{cfg.TEST.CLIPS}; set TEST.CLIPS to 1, or the sampling to segments or window"
        )
    return name
