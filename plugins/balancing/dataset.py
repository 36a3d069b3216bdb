"""A training set together with the generated images that balance it."""

import logging
from collections.abc import Sequence
from pathlib import Path

from fastreid.config import CfgNode

from plugins.balancing.sampler import CappedIdentitySampler
from plugins.balancing.tables import (
    MADE_WITH,
    MANIFEST,
    Outcome,
    read_table,
    unfinished,
)
from plugins.data import build_dataset
from plugins.data.datasets.tracklet import VISIBLE, Tracklet, is_image
from plugins.data.datasets.wrapped import WrappedDataset
from plugins.errors import InputError
from plugins.registry import DATASET
from plugins.utils.names import closest_names

logger = logging.getLogger(__name__)


@DATASET.register()
class BalancedDataset(WrappedDataset):
    """Adds the generated images behind the items of the training set DATASETS.BALANCE.NAME.

    Queries and gallery are those of the set. Generated items end in ``is_pseudo`` True.
    ``CappedIdentitySampler`` limits their share of a batch.
    """

    section = "BALANCE"

    @classmethod
    def files(cls, cfg: CfgNode) -> tuple[Path, ...]:
        """Return the manifest and the record of what generated its images."""
        return tuple(Path(cfg.DATASETS.BALANCE.DIR, name) for name in (MANIFEST, MADE_WITH))

    def __init__(self, root: str, cfg: CfgNode, combineall: bool = False) -> None:
        """Read the set and the manifest.

        Args:
            root: folder of all data sets.
            cfg: names the set and the folder of the manifest.
            combineall: train on the set's test items too.

        Raises:
            InputError: the set or the manifest cannot be read; or the manifest lists a person or
                camera that the set does not have, lists a missing image, or lacks slots of the
                plan.
        """
        keys = cfg.DATASETS.BALANCE
        base = build_dataset(self.inside(cfg), "DATASETS.BALANCE.NAME", combineall, cfg)
        real = list(base.train)
        self._sampler = cfg.DATALOADER.SAMPLER_TRAIN
        self._pseudo = pseudo_items(real, Path(root, keys.DIR))
        super().__init__(base, [*real, *self._pseudo])

    def show_train(self) -> None:
        """Log the set's own table and the number of added images."""
        super().show_train()
        logger.info("%d generated images balance it", len(self._pseudo))
        if self._pseudo and self._sampler != CappedIdentitySampler.__name__:
            logger.warning(
                "DATALOADER.SAMPLER_TRAIN: %s may show a person by generated images alone; "
                "%s does not",
                self._sampler,
                CappedIdentitySampler.__name__,
            )


def pseudo_items(real: Sequence[Sequence], folder: Path) -> list[tuple]:
    """Return the generated images of a manifest, as items like those of the set.

    Args:
        real: training items of the set.
        folder: folder of the manifest.

    Returns:
        (path, pid, camid, True) beside images, one-frame tracklets beside tracklets.

    Raises:
        InputError: see :class:`BalancedDataset`.
    """
    people = {str(item[1]): item[1] for item in real}
    cameras = {str(item[2]): item[2] for item in real}
    manifest = folder / MANIFEST
    outcomes = read_table(manifest, Outcome)
    if missing := unfinished(folder, outcomes):
        raise InputError(missing)
    items: list[tuple] = []
    for line, row in enumerate(outcomes, start=2):
        for kind, name, known in (("person", row.person, people), ("camera", row.camera, cameras)):
            if name not in known:
                raise InputError(
                    f"{manifest}:{line}: the training set has no {kind} '{name}'; nearest: "
                    f"{', '.join(closest_names(name, list(known))[:3])}"
                )
        if not row.path:
            continue
        path = folder / row.path
        if not path.is_file():
            raise InputError(f"{manifest}:{line}: no image {path}")
        pid, camid = people[row.person], cameras[row.camera]
        if is_image(real[0]):
            items.append((str(path), pid, camid, True))
        else:
            items.append(Tracklet((str(path),), pid, camid, VISIBLE, True))
    return items
