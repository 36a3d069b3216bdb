"""Aggregate the maps of T frames to one feature.

| name                | order of frames | a frame repeated  | at initialization | its layers read |
|---------------------|-----------------|-------------------|-------------------|-----------------|
| TemporalMean        | ignored         | that frame's mean | is the mean       |                 |
| TemporalMax         | ignored         | that frame's mean | is the maximum    |                 |
| TemporalGeM         | ignored         | that frame's mean | between the two   | frames          |
| TemporalAttention   | ignored         | that frame's mean | equals the mean   | centered frames |
| TemporalShift       | the ends count  | that frame's mean | near the mean     |                 |
| TemporalLSTM        | counts          | depends on T      | equals the mean   | centered frames |
| TemporalTransformer | counts          | depends on T      | equals the mean   | centered frames |
| STIG                | counts          | depends on T      | equals the mean   | centered cells  |

"Centered" descriptors are normalized by statistics of the modality over clips and frames
(``modality_norm.py``). Such a part takes the modalities in addition to the maps, and records
statistics in training: there clips of a batch affect each other, in evaluation they do not. STIG
takes cells from any of three stages, and appends a relation to the feature, which has a separate
head and losses.

All take any T from 1 on, also longer than in training. None knows which frames are padding: a clip
that repeats its last frame is a longer clip. It does not change TemporalMax; for parts for which
one repeated frame gives that frame's mean, the feature moves towards the last frame and stays
between the least and the largest value of each channel; for the others only a finite feature is
guaranteed.

Each part takes the mean over space of its maps. With MODEL.SPATIAL_POOLING gem or max these are
maps of one cell, the pooled frames. All parts except TemporalMax and TemporalGeM are a mean over
the frames of the vectors of their ``frame_features``.
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
