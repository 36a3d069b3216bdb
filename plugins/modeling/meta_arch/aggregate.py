"""Turn the maps of a stage into features of clips: trunk, pooling over space, temporal part.

Legend: B clips of T frames, N = B * T; h x w the size of a map; C channels of the last stage, also
the length of an appearance; R the length of the relation behind it, 0 for most temporal parts.
"""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.backbones.two_stream import STAGES, TwoStreamBackbone
from plugins.modeling.temporal.base import CenteredPart

LAST = STAGES[-1]


def aggregate(
    backbone: TwoStreamBackbone,
    temporal: nn.Module,
    maps: Tensor,
    frames: int,
    modalities: Tensor | None,
    first: str = STAGES[0],
    earlier: dict[str, Tensor] | None = None,
    pooling: nn.Module | None = None,
    per_frame: bool = False,
) -> Tensor:
    """Run the trunk from a stage on, then the pooling over space, then the temporal part.

    Args:
        backbone: has the trunk.
        temporal: see :class:`VVIBaseline`.
        maps: input of ``first``, (N, C', h', w') of clips of ``frames`` frames.
        frames: T.
        modalities: (B,); a part that only averages does not need them.
        first: name of a stage.
        earlier: maps after stages before ``first``, by name; needed only for a temporal part whose
            source is a stage that ends more than one stage before ``first``.
        pooling: turns maps (B, T, C, h, w) of the last stage into vectors (B, T, C); None for the
            mean, which temporal parts take.
        per_frame: return the vectors whose mean over the frames the temporal part takes.

    Returns:
        (B, C + R), or (B, T, C + R).

    Raises:
        InputError: a temporal part gives something else.
    """
    source = temporal.source if isinstance(temporal, CenteredPart) else LAST
    stages = dict(earlier or {})
    if first == STAGES[0] and source == LAST:
        stages[LAST] = backbone.trunk(maps)  # keeps no maps of earlier stages
    else:
        if first != STAGES[0]:
            stages[STAGES[STAGES.index(first) - 1]] = maps
        stages |= backbone.stage_maps(maps, first)
    last_maps, source_maps = (stages[name].unflatten(0, (-1, frames)) for name in (LAST, source))
    if pooling is not None:
        # As a map of one cell, whose mean is itself. STIG's cells still come from the whole map.
        last_maps = pooling(last_maps)[..., None, None]
    method = temporal.frame_features if per_frame else temporal
    part = cast(Callable[..., Tensor], method)
    if not isinstance(temporal, CenteredPart):
        return _checked(part(last_maps), last_maps, temporal, 2 if per_frame else 1)
    assert modalities is not None, f"{type(temporal).__name__} needs the modalities of the clips"
    return part(last_maps, modalities, source_maps)


def _checked(features: object, maps: Tensor, temporal: nn.Module, leading: int) -> Tensor:
    """Return the features of a part, which may be a user's, if they are one vector for each clip.

    Args:
        features: what the part gave.
        maps: (B, T, C, h, w), which it took.
        temporal: the part.
        leading: 1 for vectors of clips, 2 for those of frames.
    """
    if isinstance(features, Tensor) and features.shape[:-1] == maps.shape[:leading]:
        return features
    found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    raise InputError(
        f"MODEL.TEMPORAL.NAME {type(temporal).__name__}: gives {found} for maps "
        f"{tuple(maps.shape)} of (clips, frames, channels, height, width); expected "
        f"{(*maps.shape[:leading], maps.shape[2])}"
    )
