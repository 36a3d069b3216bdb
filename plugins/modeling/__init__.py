"""Models: two stems and a shared trunk, temporal aggregation, head, losses, meta-architectures.

Importing this package registers all of them, so that a config can name them.
"""

from plugins.modeling import backbones, heads, losses, meta_arch, temporal

__all__ = ["backbones", "heads", "losses", "meta_arch", "temporal"]
