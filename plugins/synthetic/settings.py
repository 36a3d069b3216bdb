"""Settings of a rendered data set: one frozen record, its limits and its presets."""

import dataclasses
from dataclasses import dataclass
from typing import cast, get_args

from plugins.errors import InputError

MAX_IDENTITIES = 500  # of each split: training people are 1..500, test people 501..1000
FIRST_TEST_ID = 501
FIRST_AUXILIARY_ID = 1001
SHORTEST_TRACKLET = 12  # readers of HITSZ-VCM drop shorter ones

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
    "site_seed": (0, 2**31 - 1),
    "likeness": (0.0, 1.0),
    "test_nuisance": (0.0, 1.0),
    "tracklet_frames": (SHORTEST_TRACKLET, 120),
}
# Records of rendered sets are older than these settings: a set without them has their defaults.
_LATER = (
    "site_seed",
    "likeness",
    "gait_only",
    "gait_speed",
    "test_nuisance",
    "tracklet_frames",
)


@dataclass(frozen=True)
class SyntheticSettings:
    """Everything that decides the bytes of a rendered data set.

    Attributes:
        train_ids: people of the training split.
        test_ids: people of the test split; nobody is in both.
        height: height of a frame, pixels.
        width: width of a frame, pixels.
        cameras: number of cameras of the whole site. Camera 1 records visible light only, the last
            one infrared only, all others both.
        train_cameras: number of cameras that see one training person, in each modality.
        test_cameras: number of cameras that see one test person, in each modality; at least 2, so
            that every query keeps a match in another camera.
        min_frames: least length of a walk past a camera.
        max_frames: largest length of a walk past a camera.
        difficulty: 0 easy to 1 hard: strength of light, occlusion, blur, jitter and noise; people
            grow alike, unless ``likeness`` says how alike they are.
        nuisance: 0 to 1, how strongly cameras, walking direction and light go with the person in
            the training split (a shortcut that the test split does not have).
        imbalance: 0 to 1, how unevenly training images spread over people and over a person's
            cameras; only in layouts of images.
        seed: seed of every draw.
        site_seed: seed of the cameras, their lights and the backgrounds; None for ``seed``.
            With another site_seed the same people walk at another site; with another ``seed`` and
            this site_seed other people walk at the same site.
        likeness: 0 to 1, how alike people are in body, gait and outfit, whatever the difficulty: 0
            as different as they get, 1 the same person everywhere; None lets the difficulty decide.
        gait_only: everybody has the average body and one outfit, so that only gait tells people
            apart; ``likeness`` is then the likeness of their gait.
        gait_speed: a walker advances by stride times frequency; otherwise everybody walks equally
            fast, whatever the legs do.
        test_nuisance: 0 to 1, as ``nuisance``, but in the test split: above 0 test people have
            habits, too.
        tracklet_frames: longest tracklet of the layout hitsz-vcm, which cuts a walk after so many
            frames; the last piece is shorter.
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
    site_seed: int | None = None
    likeness: float | None = None
    gait_only: bool = False
    gait_speed: bool = False
    test_nuisance: float = 0.0
    tracklet_frames: int = 24

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
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

    @property
    def site(self) -> int:
        """Return the seed of the site's cameras and backgrounds."""
        return self.seed if self.site_seed is None else self.site_seed

    def record(self) -> dict:
        """Return the settings as the record of a data set holds them.

        The record names a setting that the renderer learned later only where it is not the default,
        so that older records, and folders named after them, stay valid.
        """
        values = dataclasses.asdict(self)
        default = {field.name: field.default for field in dataclasses.fields(self)}
        return {k: v for k, v in values.items() if k not in _LATER or v != default[k]}


def kind_of(field: dataclasses.Field) -> type:
    """Return the type of a setting's values other than None: int, float or bool."""
    return (get_args(field.type) or (field.type,))[0]


def _check(field: dataclasses.Field, value: object) -> None:
    kind, optional = kind_of(field), bool(get_args(field.type))
    if (value is None and optional) or (kind is bool and isinstance(value, bool)):
        return
    expected = "True or False"
    if kind is not bool:
        low, high = _LIMITS[field.name]
        numeric = isinstance(value, int | kind) and not isinstance(value, bool)
        if numeric and low <= cast(float, value) <= high:
            return
        name = "a whole number" if kind is int else "a number"
        expected = f"{name} between {low} and {high}{' or None' if optional else ''}"
    raise InputError(f"synthetic data: {field.name} is {value!r}, expected {expected}")


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
