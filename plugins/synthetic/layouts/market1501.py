"""The layout of Market-1501: images in visible light, ``<pid>_c<camera>s1_<frame>_<box>.jpg``.

The folders are those that fastreid's reader looks for. The first frame of each test walk is a
query, the others are the gallery. ``settings.imbalance`` thins the training images out, by person
and by camera.
"""

from collections import Counter
from pathlib import Path

from plugins.errors import InputError
from plugins.synthetic.plan import VISIBLE, Walk, plan_split
from plugins.synthetic.settings import SyntheticSettings
from plugins.synthetic.streams import Stream, stream
from plugins.synthetic.writers import Layout, Recording

CAMERAS = 6  # of Market-1501; fastreid's reader takes no more
FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


def plan(settings: SyntheticSettings) -> dict[str, list[Recording]]:
    """List the visible walks of each split with their files.

    Raises:
        InputError: there are more cameras than Market-1501 has.
    """
    if settings.cameras - 1 > CAMERAS:  # the last one records no visible light
        raise InputError(
            f"synthetic data: cameras is {settings.cameras}, expected at most {CAMERAS + 1} in the "
            f"layout market1501, which has {CAMERAS} that record visible light"
        )
    walks = {split: plan_split(settings, split) for split in ("train", "test")}
    taken: Counter[tuple[int, int]] = Counter()
    recordings: dict[str, list[Recording]] = {split: [] for split in walks}
    for split, rows in walks.items():
        for walk in (walk for walk in rows if walk.modality == VISIBLE):
            first = 1 + taken[walk.pid, walk.camid]
            taken[walk.pid, walk.camid] += walk.frames
            count = walk.frames
            if split == "train":
                count = images_kept(settings, walk)
            frames = tuple(index * walk.frames // count for index in range(count))
            folders = ["bounding_box_train"] * count
            if split == "test":
                folders = ["query"] + ["bounding_box_test"] * (count - 1)
            files = tuple(
                f"{folder}/{walk.pid:04d}_c{walk.camid}s1_{first + frame:06d}_01.jpg"
                for folder, frame in zip(folders, frames, strict=True)
            )
            recordings[split].append(
                Recording(walk, f"c{walk.camid}", frames, files, (range(count),))
            )
    return recordings


def images_kept(settings: SyntheticSettings, walk: Walk) -> int:
    """Count the images of a training walk, from all its frames down to one.

    Each person and, for a person, each camera but a favorite one has a share of its own, drawn so
    that its logarithm is uniform from 0 to log(1 - 0.9 * imbalance): at imbalance 1 a person has
    all to a tenth of the images, and each further camera again all to a tenth of that. The share of
    the first camera is not drawn anew, it is the person's: numpy seeds the stream of walk 0 as that
    of the person.
    """
    least = 1 - 0.9 * settings.imbalance
    person = stream(settings.seed, Stream.SHARE, walk.pid)
    share = least ** person.random()
    favorite = person.permutation(settings.train_cameras)[0]
    if walk.number % settings.train_cameras != favorite:
        share *= least ** stream(settings.seed, Stream.SHARE, walk.pid, walk.number).random()
    return max(1, round(share * walk.frames))


def write_index(root: Path, recordings: dict[str, list[Recording]]) -> None:
    """Write nothing, as the file names hold everything."""


MARKET1501 = Layout("market1501", "Market-1501-v15.09.15", FOLDERS, plan, write_index, images=True)
