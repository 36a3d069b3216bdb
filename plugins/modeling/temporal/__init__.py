"""Temporal aggregation: the maps of T frames to one feature.

| name                | order of frames | one frame repeated  | at initialisation |
|---------------------|-----------------|---------------------|-------------------|
| TemporalMean        | ignored         | that frame's mean   | is the mean       |
| TemporalMax         | ignored         | that frame's mean   | is the maximum    |
| TemporalGeM         | ignored         | that frame's mean   | between the two   |
| TemporalAttention   | ignored         | that frame's mean   | equals the mean   |
| TemporalShift       | counts (ends)   | that frame's mean   | near the mean     |
| TemporalLSTM        | counts          | depends on T        | equals the mean   |
| TemporalTransformer | counts          | depends on T        | equals the mean   |
| STIG                | counts          | depends on T        | mean x (1 + w)    |

All take any T from 1 on, longer than trained too. None knows which frames are padding: a clip that
repeats its last frame is a longer clip. TemporalMax does not change by it; where one frame repeated
gives that frame's mean, the feature moves towards the last frame and stays between the least and
the largest value of each channel; for the others no more is promised than a finite feature.

Each part takes the mean over space of the maps that it gets. With MODEL.SPATIAL_POOLING gem or max
these are maps of one place, the pooled frames. All but TemporalMax and TemporalGeM are a mean over
the frames of the vectors that their ``frame_features`` gives.
"""

from plugins.modeling.temporal.attention import TemporalAttention
from plugins.modeling.temporal.gem import TemporalGeM
from plugins.modeling.temporal.lstm import TemporalLSTM
from plugins.modeling.temporal.max import TemporalMax
from plugins.modeling.temporal.mean import TemporalMean
from plugins.modeling.temporal.shift import TemporalShift
from plugins.modeling.temporal.stig import STIG
from plugins.modeling.temporal.transformer import TemporalTransformer

__all__ = [
    "STIG",
    "TemporalAttention",
    "TemporalGeM",
    "TemporalLSTM",
    "TemporalMax",
    "TemporalMean",
    "TemporalShift",
    "TemporalTransformer",
]
