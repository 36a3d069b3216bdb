"""Make people alike: draw each as different as possible, then pull it to the average person.

Legend: S surfaces of a palette.
"""

import dataclasses
from typing import Any, TypeVar

import numpy as np

from plugins.synthetic.identity import (
    BODY_RANGES,
    GAIT_RANGES,
    HAIR_TONES,
    PERIODS,
    SKIN_TONES,
    Body,
    Gait,
    Identity,
    Outfit,
    Palette,
    Surface,
    draw_identity,
    range_scale,
)
from plugins.synthetic.settings import SyntheticSettings
from plugins.synthetic.streams import Stream, stream

Numbers = TypeVar("Numbers", Body, Gait, Palette)
Value = TypeVar("Value", float, np.ndarray)


def _average_identity() -> Identity:
    """Make the average person: mean body and gait in plain, muted clothes of the commonest cut."""
    colors = {
        Surface.SKIN: (SKIN_TONES[1], 0.62),
        Surface.HAIR: (HAIR_TONES[1], 0.26),
        Surface.TOP: ((0.34, 0.40, 0.46), 0.70),
        Surface.BOTTOM: ((0.16, 0.17, 0.22), 0.48),
        Surface.SHOES: ((0.12, 0.11, 0.10), 0.20),
        Surface.BAG: ((0.24, 0.22, 0.20), 0.32),
        Surface.SHADOW: ((0.02, 0.02, 0.02), 0.02),
        Surface.OBSTACLE: ((0.0, 0.0, 0.0), 0.5),  # each walk has its own
    }
    visible = np.array([colors[surface][0] for surface in Surface])
    infrared = np.array([[colors[surface][1]] for surface in Surface])
    return Identity(
        body=Body(**{name: sum(limits) / 2 for name, limits in BODY_RANGES.items()}),
        gait=Gait(**{name: sum(limits) / 2 for name, limits in GAIT_RANGES.items()}),
        outfit=Outfit("short", "shirt", 1.0, "trousers", looseness=0.012, carried="none"),
        pattern=np.zeros((len(Surface), 3)),
        period=np.full(len(Surface), sum(PERIODS) / 2),
        relief=np.zeros(len(Surface)),
        visible=Palette(visible, visible),
        infrared=Palette(infrared, infrared),
    )


AVERAGE = _average_identity()


def person_of(settings: SyntheticSettings, pid: int) -> Identity:
    """Draw the person ``pid`` of a data set; ``settings`` decide how alike people are."""
    likeness = settings.likeness
    if likeness is None:
        person = draw_identity(settings.seed, pid, settings.difficulty)
    else:
        person = draw_identity(settings.seed, pid, 0.0)
        person = pull(person, likeness, stream(settings.seed, Stream.IDENTITY, pid, 2))
    return dataclasses.replace(AVERAGE, gait=person.gait) if settings.gait_only else person


def people_scale(settings: SyntheticSettings) -> float:
    """Return the scale of the ranges of body and gait; 1 means those of ``identity``."""
    if settings.likeness is None:
        return range_scale(settings.difficulty)
    return (1 - settings.likeness) * range_scale(0.0)


def pull(person: Identity, likeness: float, rng: np.random.Generator) -> Identity:
    """Pull a person towards the average one.

    Numbers and colors move along the straight line. Hair, cut of top and bottom, luggage and the
    kind of pattern of each surface have no middle: each becomes the average person's with
    probability ``likeness``. The same draws serve every likeness, so a person who has become
    average in something stays average at a higher likeness.

    Args:
        person: at likeness 0.
        likeness: 0 to 1; 1 is the average person.
        rng: generator of this person alone.
    """

    def mix(value: Value, average: Value) -> Value:
        return (1 - likeness) * value + likeness * average

    def mix_all(numbers: Numbers, average: Numbers) -> Numbers:
        names = [field.name for field in dataclasses.fields(numbers)]
        mixed: list[Any] = [mix(getattr(numbers, name), getattr(average, name)) for name in names]
        return type(numbers)(*mixed)

    # The outfits from which hair, top, bottom and luggage come.
    hair, top, bottom, carried = (
        AVERAGE.outfit if draw < likeness else person.outfit for draw in rng.random(4)
    )
    plain = rng.random(len(Surface))[:, None] < likeness
    return Identity(
        body=mix_all(person.body, AVERAGE.body),
        gait=mix_all(person.gait, AVERAGE.gait),
        outfit=Outfit(
            hair=hair.hair,
            top=top.top,
            sleeves=top.sleeves,
            bottom=bottom.bottom,
            looseness=mix(person.outfit.looseness, AVERAGE.outfit.looseness),
            carried=carried.carried,
        ),
        pattern=np.where(plain, AVERAGE.pattern, person.pattern),
        period=mix(person.period, AVERAGE.period),
        relief=mix(person.relief, AVERAGE.relief),
        visible=mix_all(person.visible, AVERAGE.visible),
        infrared=mix_all(person.infrared, AVERAGE.infrared),
    )
