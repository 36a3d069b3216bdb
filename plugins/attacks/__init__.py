"""Attacks: images within a budget whose features mislead the search."""

from plugins.attacks import dataset_level, per_query
from plugins.attacks.attack import Attack, Outcome, build_attack
from plugins.attacks.black_box.hop_skip_jump import hop_skip_jump
from plugins.attacks.black_box.transfer import Transferred
from plugins.attacks.features import Adapter, attacking
from plugins.attacks.guides import Guides
from plugins.attacks.optimizers import Recipe, maximise
from plugins.attacks.threat_model import Region, ThreatModel

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
    "dataset_level",
    "hop_skip_jump",
    "maximise",
    "per_query",
]
