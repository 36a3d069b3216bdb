"""Thin a training set out unevenly, to measure the value of balancing it."""

import logging
from collections import defaultdict

import numpy as np
from fastreid.config import CfgNode

from plugins.config import check_value
from plugins.data.datasets.base import Items
from plugins.data.datasets.build import build_dataset
from plugins.data.datasets.wrapped import WrappedDataset
from plugins.registry import DATASET

logger = logging.getLogger(__name__)


@DATASET.register()
class ThinnedDataset(WrappedDataset):
    """The set DATASETS.THINNED.NAME with some training items left out; its test split as it is."""

    section = "THINNED"

    def __init__(self, root: str, cfg: CfgNode, combineall: bool = False) -> None:
        """Read the set and leave items out.

        Args:
            root: not used; the set inside is read as any other.
            cfg: has the name of the set, the imbalance and the seed.
            combineall: train on the set's test items too; they are thinned out as well.

        Raises:
            InputError: from the set; the set is this one; or IMBALANCE is no share.
        """
        keys = cfg.DATASETS.THINNED
        check_value("DATASETS.THINNED.IMBALANCE", keys.IMBALANCE)
        base = build_dataset(self.inside(cfg), "DATASETS.THINNED.NAME", combineall, cfg)
        everything = list(base.train)
        kept = kept_rows(everything, keys.IMBALANCE, keys.SEED)
        super().__init__(base, [everything[row] for row in kept])

    def show_train(self) -> None:
        """Log the table of the set inside, and how many items are left."""
        super().show_train()
        logger.info("%d of its %d training items are kept", len(self.train), len(self.base.train))


def kept_rows(items: Items, imbalance: float, seed: int) -> list[int]:
    """Choose the items that stay, ascending, at least one of each person and camera.

    As in the rendered Market-1501, each person and, for a person, each camera but a favorite one
    has its share, drawn so that its logarithm is uniform from 0 to log(1 - 0.9 * imbalance): at
    imbalance 1 a person keeps all to a tenth of the items, and each further camera again all to a
    tenth of them. The items that a person and camera keep lie at equal distances.

    Args:
        items: (path, pid, camid, ...) or tracklets.
        imbalance: 0 (everything stays) to 1.
        seed: seed of the shares.
    """
    least = 1 - 0.9 * imbalance
    rows: dict = defaultdict(lambda: defaultdict(list))
    for row, item in enumerate(items):
        rows[item[1]][item[2]].append(row)
    kept = []
    for number, person in enumerate(sorted(rows)):
        generator = np.random.default_rng((seed, number))
        cameras = sorted(rows[person])
        shares = least ** generator.random(1 + len(cameras))
        favorite = int(generator.integers(len(cameras)))
        for index, camera in enumerate(cameras):
            group = rows[person][camera]
            share = shares[0] * (1 if index == favorite else shares[1 + index])
            count = max(1, round(share * len(group)))
            kept += [group[step * len(group) // count] for step in range(count)]
    return sorted(kept)
