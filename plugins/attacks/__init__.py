"""Attacks: images within a budget whose features mislead a retrieval.

Five concepts: a ``ThreatModel`` with its ``PerturbationSet`` says what may change, an objective
(``plugins.attacks.objectives``) what to maximize, a ``Recipe`` how; an ``Attack`` puts them
together and returns an ``AttackResult``.
"""

from plugins.attacks import dataset_level, per_query
from plugins.attacks.attack import Attack, build_attack
from plugins.attacks.black_box.hop_skip_jump import hop_skip_jump
from plugins.attacks.black_box.transfer import Transferred
from plugins.attacks.features import Adapter, attacking
from plugins.attacks.guides import Guides
from plugins.attacks.recipe import Recipe
from plugins.attacks.threat_model import PerturbationSet, ThreatModel
from plugins.attacks.tracker import AttackResult, BestTracker

__all__ = [
    "Adapter",
    "Attack",
    "AttackResult",
    "BestTracker",
    "Guides",
    "PerturbationSet",
    "Recipe",
    "ThreatModel",
    "Transferred",
    "attacking",
    "build_attack",
    "dataset_level",
    "hop_skip_jump",
    "per_query",
]
