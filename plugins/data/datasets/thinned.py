"""A training set thinned out unevenly, to see what balancing it is worth."""

import logging
from collections import defaultdict

import numpy as np
from fastreid.config import CfgNode

from plugins.data.datasets.build import build_dataset
from plugins.data.datasets.wrapped import WrappedDataset
from plugins.errors import InputError
from plugins.registry import DATASET

logger = logging.getLogger(__name__)


@DATASET.register()
class ThinnedDataset(WrappedDataset):
    """The set DATASETS.THINNED.NAME with some training items left out; its test split as it is."""

    section = "THINNED"

    def __init__(self, root: str, cfg: CfgNode, combineall: bool = False) -> None:
        """Read the set, leave items out.

        Args:
            root: not needed; the set inside is found as any other.
            cfg: names the set, how uneven it gets and the seed.
            combineall: train on the set's test items too; they are thinned out as well.

        Raises:
            InputError: from the set; it is this one; or IMBALANCE is no share.
        """
        keys = cfg.DATASETS.THINNED
        if not 0 <= keys.IMBALANCE <= 1:
            raise InputError(f"DATASETS.THINNED.IMBALANCE: {keys.IMBALANCE}; expected 0 to 1")
        base = build_dataset(self.inside(cfg), "DATASETS.THINNED.NAME", combineall, cfg)
        everything = list(base.train)
        kept = kept_rows(everything, keys.IMBALANCE, keys.SEED)
        super().__init__(base, [everything[row] for row in kept])

    def show_train(self) -> None:
        """Log the set's own table, and how many items are left."""
        super().show_train()
        logger.info("%d of its %d training items are kept", len(self.train), len(self.base.train))


def kept_rows(items: list[tuple], imbalance: float, seed: int) -> list[int]:
    """Which items stay, ascending; of each person and camera at least one.

    As in the rendered Market-1501: each person and, for a person, each camera but a favourite one
    has a share of its own, drawn so that its logarithm is uniform from 0 to log(1 - 0.9 *
    imbalance): at imbalance 1 a person has all to a tenth of the items, and each further camera
    again all to a tenth of that. The items of a person and camera that stay are spread evenly.

    Args:
        items: (path, pid, camid, ...) or tracklets.
        imbalance: 0, everything stays, to 1.
        seed: of the shares.
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
        favourite = int(generator.integers(len(cameras)))
        for place, camera in enumerate(cameras):
            own = rows[person][camera]
            share = shares[0] * (1 if place == favourite else shares[1 + place])
            count = max(1, round(share * len(own)))
            kept += [own[index * len(own) // count] for index in range(count)]
    return sorted(kept)
