"""The kinds of pictures by name, and what each needs."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from plugins.attacks import build_attack
from plugins.errors import InputError
from plugins.inference import Embedder
from plugins.utils.names import closest_names, join_choices
from plugins.visualization.cameras import picture_of_cameras
from plugins.visualization.clips import network_of
from plugins.visualization.embedding import PEOPLE, picture_of_tsne
from plugins.visualization.evaluated_set import EvaluatedSet
from plugins.visualization.gradcam import last_stage, picture_of_gradcam, require_captum
from plugins.visualization.histograms import picture_of_distances
from plugins.visualization.perturbations import ATTACK, picture_of_attack
from plugins.visualization.picture import Picture
from plugins.visualization.ranked_picture import picture_of_ranked
from plugins.visualization.weights import picture_of_weights, temporal_part

RANKED_QUERIES, CLIPS = 5, 2


@dataclass(frozen=True)
class Options:
    """What a user may choose.

    Attributes:
        direction: name; empty for the data set's first.
        picks: a word of ``PICKS``, or names of queries; empty for the kind's own choice.
        queries: number of queries for a word; 0 for the kind's own number.
        top: clips of a ranked list.
        frames: frames shown of each ranked clip.
        people: people of t-SNE.
        attack: registered name of the adversarial attack.
        seed: of all random choices.
    """

    direction: str = ""
    picks: tuple[str, ...] = ()
    queries: int = 0
    top: int = 6
    frames: int = 3
    people: int = PEOPLE
    attack: str = ATTACK
    seed: int = 0


class Kind(NamedTuple):
    """A kind of picture.

    Attributes:
        draw: draws it.
        check: raises InputError, before features are computed, where the run or the machine
            cannot.
    """

    draw: Callable[[Embedder, EvaluatedSet, Options], Picture]
    check: Callable[[Embedder, Options], object] = lambda embedder, options: None


def ranked(_: Embedder, data: EvaluatedSet, options: Options) -> Picture:
    """Draw ranked clips."""
    return picture_of_ranked(
        data,
        options.direction,
        picks=options.picks or ("spread",),
        count=options.queries or RANKED_QUERIES,
        top=options.top,
        frames=options.frames,
        seed=options.seed,
    )


def of_clips(draw: Callable[..., Picture]) -> Callable[[Embedder, EvaluatedSet, Options], Picture]:
    """Pass the options of a kind that shows some clips."""
    return lambda embedder, data, options: draw(
        embedder,
        data,
        options.direction,
        picks=options.picks,
        count=options.queries or CLIPS,
        seed=options.seed,
    )


def attack(embedder: Embedder, data: EvaluatedSet, options: Options) -> Picture:
    """Draw perturbations."""
    draw = functools.partial(picture_of_attack, attack=options.attack)
    return of_clips(draw)(embedder, data, options)


def check_gradcam(embedder: Embedder, _: Options) -> None:
    """Raise InputError where captum is missing or the network's stages are not known."""
    require_captum()
    last_stage(network_of(embedder))


KINDS: dict[str, Kind] = {
    "ranked": Kind(ranked),
    "distances": Kind(lambda embedder, data, options: picture_of_distances(data)),
    "tsne": Kind(
        lambda embedder, data, options: picture_of_tsne(data, options.people, options.seed)
    ),
    "cameras": Kind(
        lambda embedder, data, options: picture_of_cameras(data, options.direction),
    ),
    "weights": Kind(
        of_clips(picture_of_weights),
        lambda embedder, options: temporal_part(network_of(embedder)),
    ),
    "gradcam": Kind(of_clips(picture_of_gradcam), check_gradcam),
    "attack": Kind(
        attack,
        lambda embedder, options: build_attack(options.attack, embedder.cfg, "--attack"),
    ),
}


def kind_named(name: str, others: tuple[str, ...] = ()) -> Kind | None:
    """Return the kind of that name; None for one of ``others``.

    Raises:
        InputError: there is none.
    """
    if name in others:
        return None
    if name not in KINDS:
        choices = [*KINDS, *others]
        raise InputError(
            f"KIND {name!r}: expected {join_choices(choices)}; "
            f"nearest: {closest_names(name, choices)[0]}"
        )
    return KINDS[name]
