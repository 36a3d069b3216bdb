"""Attacks: images within a budget whose features mislead the search."""

from plugins.attacks import presets
from plugins.attacks.adapter import Adapter, attacking
from plugins.attacks.base import Attack, Outcome, build_attack
from plugins.attacks.constraints import Region, ThreatModel
from plugins.attacks.guides import Guides
from plugins.attacks.optimizers import Recipe, maximise

__all__ = [
    "Adapter",
    "Attack",
    "Guides",
    "Outcome",
    "Recipe",
    "Region",
    "ThreatModel",
    "attacking",
    "build_attack",
    "maximise",
    "presets",
]
