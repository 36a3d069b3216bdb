"""What a rendered data set holds: one frozen record, its limits and its presets."""

import dataclasses
from dataclasses import dataclass

from plugins.errors import InputError

MAX_IDENTITIES = 500  # of each split: training people are 1..500, test people 501..1000
FIRST_TEST_ID = 501
FIRST_AUXILIARY_ID = 1001
SHORTEST_TRACKLET = 12  # readers of HITSZ-VCM drop shorter ones
LONGEST_TRACKLET = 24  # HITSZ-VCM cuts a walk after so many frames; the last piece is shorter

_LIMITS = {
    "train_ids": (2, MAX_IDENTITIES),
    "test_ids": (2, MAX_IDENTITIES),
    "height": (32, 288),
    "width": (16, 144),
    "cameras": (4, 12),
    "train_cameras": (1, 10),
    "test_cameras": (2, 10),
    "min_frames": (SHORTEST_TRACKLET, 120),
    "max_frames": (SHORTEST_TRACKLET, 120),
    "difficulty": (0.0, 1.0),
    "nuisance": (0.0, 1.0),
    "imbalance": (0.0, 1.0),
    "seed": (0, 2**31 - 1),
}


@dataclass(frozen=True)
class SyntheticSettings:
    """Everything that decides the bytes of a rendered data set.

    Attributes:
        train_ids: people of the training split.
        test_ids: people of the test split; nobody is in both.
        height: of a frame, pixels.
        width: of a frame, pixels.
        cameras: of the whole site. Camera 1 records visible light only, the last one infrared only,
            all others both.
        train_cameras: that see one training person, in each modality.
        test_cameras: that see one test person, in each modality; at least 2, so that every query
            keeps a match in another camera.
        min_frames: of a walk past a camera.
        max_frames: of a walk past a camera.
        difficulty: 0 easy to 1 hard: strength of light, occlusion, blur, jitter and noise; people
            grow alike.
        nuisance: 0 to 1, how strongly cameras, walking direction and light go with the person in
            the training split (a shortcut that the test split does not have).
        imbalance: 0 to 1, how unevenly training images spread over people and over a person's
            cameras; only in layouts of images.
        seed: of every draw.
    """

    train_ids: int = 12
    test_ids: int = 12
    height: int = 64
    width: int = 32
    cameras: int = 6
    train_cameras: int = 2
    test_cameras: int = 3
    min_frames: int = 12
    max_frames: int = 14
    difficulty: float = 0.5
    nuisance: float = 0.5
    imbalance: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, (low, high) = getattr(self, field.name), _LIMITS[field.name]
            numeric = isinstance(value, int | field.type) and not isinstance(value, bool)
            if not (numeric and low <= value <= high):
                kind = "a whole number" if field.type is int else "a number"
                raise InputError(
                    f"synthetic data: {field.name} is {value!r}, "
                    f"expected {kind} between {low} and {high}"
                )
        if self.min_frames > self.max_frames:
            raise InputError(
                f"synthetic data: min_frames is {self.min_frames}, "
                f"expected at most max_frames, {self.max_frames}"
            )
        shared = self.cameras - 2
        for name in ("train_cameras", "test_cameras"):
            if getattr(self, name) > shared:
                raise InputError(
                    f"synthetic data: {name} is {getattr(self, name)}, expected at most {shared}, "
                    f"the cameras that record both modalities when there are {self.cameras}"
                )


PRESETS = {
    "quick": SyntheticSettings(),
    "demo": SyntheticSettings(
        train_ids=60, test_ids=24, train_cameras=4, difficulty=0.1, nuisance=0.3
    ),
    "bench": SyntheticSettings(
        train_ids=80,
        test_ids=40,
        cameras=8,
        train_cameras=3,
        test_cameras=4,
        difficulty=0.0,
        nuisance=0.1,
    ),
}
