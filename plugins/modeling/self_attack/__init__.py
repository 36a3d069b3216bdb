"""Adversarial self-attack of SADSTRM, arXiv 2307.03903: interference in the maps as an attacker.

The paper's abstract states the idea: the interference that view, pose, background and modality
leave in the training samples is activated, in feature space, as the perturbation that attacks the
network while it trains. Mechanism, budget and losses are this package's design. It is used in
training only.

These are the kinds of attack and their cost for a batch (passes of the layers above the attacked
maps, forward and backward, all turns together; without an attack 1 and 1):

- ``learned``: Delta of the stem maps by a module that learns L_A; 4 and 3;
- ``gradient``: Delta of the stem maps down the gradient of L_A; 3 and 3;
- ``random``: noise of the stem maps, a control; 2 and 2;
- ``style``: the channel statistics of a drawn clip of the batch; 2 and 2;
- ``style_worst``: those of the clip of the batch that confuses most; 3 and 3;
- ``statistics``: a step of the statistics within what one person's clips differ by; 3 and 3;
- ``background``: the cells beside the person, from a clip of another camera; 2 and 2.

Each class states its budget. The last four attack the maps after layer1, layer2 or layer3.
"""

from plugins.modeling.self_attack.attacker import Attacker
from plugins.modeling.self_attack.background import BackgroundAttack
from plugins.modeling.self_attack.base import CleanPass, FeatureAttack, Losses, Passes
from plugins.modeling.self_attack.budget import bounded, budget_share, frame_norms, relative_norm
from plugins.modeling.self_attack.build import ATTACKERS, build_self_attack
from plugins.modeling.self_attack.gradient import GradientAttack
from plugins.modeling.self_attack.labels import Labels
from plugins.modeling.self_attack.learned import Interference, SelfAttack, channel_attention
from plugins.modeling.self_attack.noise import RandomAttack
from plugins.modeling.self_attack.stage_attack import StageAttack
from plugins.modeling.self_attack.statistics import StatisticsAttack
from plugins.modeling.self_attack.style import StyleAttack
from plugins.modeling.self_attack.style_worst import StyleWorstAttack

__all__ = [
    "ATTACKERS",
    "Attacker",
    "BackgroundAttack",
    "CleanPass",
    "FeatureAttack",
    "GradientAttack",
    "Interference",
    "Labels",
    "Losses",
    "Passes",
    "RandomAttack",
    "SelfAttack",
    "StageAttack",
    "StatisticsAttack",
    "StyleAttack",
    "StyleWorstAttack",
    "bounded",
    "budget_share",
    "build_self_attack",
    "channel_attention",
    "frame_norms",
    "relative_norm",
]
