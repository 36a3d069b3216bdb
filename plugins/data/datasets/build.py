"""Read the data sets that a config names."""

import os
import warnings
from collections.abc import Sequence

from fastreid.config import CfgNode
from fastreid.utils import comm

from plugins.data.datasets.base import ReidDataset
from plugins.data.datasets.fastreid_sets import check_names, fixed_draws, missing_part
from plugins.data.datasets.image_set import ImageSet
from plugins.data.datasets.own_reader import check_arguments, check_lists
from plugins.data.datasets.presence import require_frames
from plugins.data.datasets.reader_errors import explain
from plugins.data.datasets.splits import warn_of_faults
from plugins.data.datasets.tracklet import as_tracklet
from plugins.data.datasets.unlisted import explain_emptiness, warn_of_unlisted
from plugins.data.datasets.wrapped import chain
from plugins.errors import InputError
from plugins.registry import DATASET, lookup

# fastreid's readers raise these for a file's name, or a line of a list, that they cannot parse.
MISREAD = (AttributeError, ValueError, LookupError)


def datasets_root() -> str:
    """Return the folder of all data sets: FASTREID_DATASETS as it is now, or ``datasets``."""
    return os.getenv("FASTREID_DATASETS", "datasets")


def check_root(option: str = "FASTREID_DATASETS") -> None:
    """Raise InputError if FASTREID_DATASETS, which the user gave as ``option``, is no folder."""
    root = os.getenv("FASTREID_DATASETS")
    if root and not os.path.isdir(root):
        what = "a file" if os.path.exists(root) else "no such folder"
        raise InputError(f"{option} {root}: {what}; expected the folder of all data sets")


def build_dataset(
    name: str,
    key: str = "DATASETS.NAMES",
    combineall: bool = False,
    cfg: CfgNode | None = None,
) -> ReidDataset:
    """Read the data set registered as ``name`` from :func:`datasets_root`.

    Args:
        name: the registered name.
        key: the config key that holds the name, for the message.
        combineall: train on the test items too.
        cfg: holds the options of the set, see ``ReidDataset.options``; None leaves them at their
            defaults.

    Raises:
        InputError: no such name, sets are inside each other, files are missing or have other names
            than the set's, or a user's reader takes other arguments or lists no tracklets.
    """
    reader = lookup(DATASET, name, key)
    if cfg is not None:
        chain(name, cfg, key)  # sets that are inside each other would be read for ever
    check_root()
    root = datasets_root()
    # fastreid's readers have no options.
    options = reader.options(cfg) if cfg is not None and hasattr(reader, "options") else {}
    if combineall:
        options["combineall"] = True
    check_arguments(reader, f"{key} {name}", options)
    if hasattr(reader, "directions"):
        data = reader(root=root, **options)
        check_lists(data, f"{key} {name}")
        return data
    try:
        with fixed_draws(reader), warnings.catch_warnings():
            # fastreid's reader says so of a missing folder, too; this layout is read as any other.
            warnings.filterwarnings("ignore", "The current data structure is deprecated")
            data = ImageSet(reader(root=root, **options))
        check_names(data.images)
    except InputError:
        raise
    # fastreid's readers raise these if a folder is missing, or a file has another set's name.
    except (RuntimeError, OSError, AssertionError, *MISREAD) as error:
        if isinstance(error, MISREAD) or not str(error):
            why = f"a file in '{root}' is not named as this set names its images: {explain(error)}"
        elif missing := missing_part(reader, root):
            why = missing
        else:
            why = f"{error}; set FASTREID_DATASETS to the folder of all data sets (now '{root}')"
        raise InputError(f"{key} {name}: {why}") from error
    return data


def training_items(cfg: CfgNode) -> list[tuple]:
    """List the training items of all DATASETS.NAMES; several sets name their people and cameras."""
    names = cfg.DATASETS.NAMES
    items: list[tuple] = []
    for name in names:
        data = build_dataset(name, combineall=cfg.DATASETS.COMBINEALL, cfg=cfg)
        if comm.is_main_process():
            data.show_train()
            warn_of_unlisted(data, name)
            if not cfg.DATASETS.COMBINEALL:
                warn_of_faults(data, name, cfg)
        if not data.train:
            raise InputError(
                f"DATASETS.NAMES {name}: it has no training items{explain_emptiness(data)}"
            )
        files = (file for item in data.train for file in as_tracklet(item).img_paths)
        require_frames(data, name, files, "train", cfg, "DATASETS.NAMES")
        items += data.train if len(names) == 1 else [with_set(item, name) for item in data.train]
    return items


def with_set(item: Sequence, name: str) -> tuple:
    """Put a set's name to the person and the camera of an item, to tell them from other sets'."""
    paths, pid, camid, *rest = item
    return (paths, (name, pid), (name, camid), *rest)
