"""Data balancing with a diffusion generator (DDDefense, phase 1).

``planner`` says which images are missing. ``edm``, ``network`` and ``training`` learn to make
them, ``sampling`` and ``generator`` make them, ``filters`` and ``classifier`` judge them,
``filling`` keeps the right ones, ``precision`` says how many are right. ``dataset`` and
``sampler`` train on them. ``pictures`` shows them, ``runs`` does it all for a config. ``network``
and what builds on it need diffusers.
"""

from plugins.balancing.dataset import BalancedDataset
from plugins.balancing.sampler import CappedIdentitySampler

__all__ = ["BalancedDataset", "CappedIdentitySampler"]
