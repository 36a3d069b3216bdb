"""Adversarial self-attack of SADSTRM, arXiv 2307.03903: interference in the maps, made an attacker.

The paper's abstract states the idea: the interference that view, pose, background and modality
leave in the training samples is activated, in feature space, as the perturbation that attacks the
network while it trains. How it is made, budget and losses are this package's design. Training only.
"""

from plugins.modeling.self_attack.attacker import Attacker, Losses
from plugins.modeling.self_attack.budget import bounded, budget_share, frame_norms, relative_norm
from plugins.modeling.self_attack.build import ATTACKERS, build_self_attack
from plugins.modeling.self_attack.gradient import GradientAttack
from plugins.modeling.self_attack.learned import Interference, SelfAttack, channel_attention
from plugins.modeling.self_attack.noise import RandomAttack

__all__ = [
    "ATTACKERS",
    "Attacker",
    "GradientAttack",
    "Interference",
    "Losses",
    "RandomAttack",
    "SelfAttack",
    "bounded",
    "budget_share",
    "build_self_attack",
    "channel_attention",
    "frame_norms",
    "relative_norm",
]
