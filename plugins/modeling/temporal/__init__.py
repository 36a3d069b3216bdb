"""Temporal aggregation: the maps of T frames to one feature."""

from plugins.modeling.temporal.mean import TemporalMean
from plugins.modeling.temporal.stig import STIG

__all__ = ["STIG", "TemporalMean"]
