"""Attacks: images within a budget whose features mislead the search."""

from plugins.attacks import prepared, presets
from plugins.attacks.adapter import Adapter, attacking
from plugins.attacks.base import Attack, Outcome, build_attack
from plugins.attacks.constraints import Region, ThreatModel
from plugins.attacks.guides import Guides
from plugins.attacks.hop_skip_jump import hop_skip_jump
from plugins.attacks.optimizers import Recipe, maximise
from plugins.attacks.transfer import Transferred

__all__ = [
    "Adapter",
    "Attack",
    "Guides",
    "Outcome",
    "Recipe",
    "Region",
    "ThreatModel",
    "Transferred",
    "attacking",
    "build_attack",
    "hop_skip_jump",
    "maximise",
    "prepared",
    "presets",
]
