"""Meta-architectures: a batch to losses in training, to features in evaluation."""

from plugins.modeling.meta_arch.sadstrm import SADSTRM
from plugins.modeling.meta_arch.vvi_baseline import VVIBaseline

__all__ = ["SADSTRM", "VVIBaseline"]
