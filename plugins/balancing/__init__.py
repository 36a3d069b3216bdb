"""Data balancing with a diffusion generator (DDDefense, phase 1).

``planner`` lists the missing images. ``edm``, ``network`` and ``training`` learn to generate them,
``sampling`` and ``generator`` generate them, ``filters`` and ``classifier`` judge them, ``filling``
keeps the accepted ones, and ``precision`` measures how many are right. ``dataset`` and ``sampler``
train on them. ``pictures`` draws them, and ``runs`` carries out each task for a config. ``network``
and the modules that import it need diffusers.
"""

from plugins.balancing.dataset import BalancedDataset
from plugins.balancing.sampler import CappedIdentitySampler

__all__ = ["BalancedDataset", "CappedIdentitySampler"]
