"""Build the attack of ``MODEL.SELF_ATTACK.KIND``."""

from fastreid.config import CfgNode

from plugins.errors import InputError
from plugins.modeling.self_attack.attacker import Attacker
from plugins.modeling.self_attack.background import BackgroundAttack
from plugins.modeling.self_attack.base import FeatureAttack
from plugins.modeling.self_attack.gradient import GradientAttack
from plugins.modeling.self_attack.learned import SelfAttack
from plugins.modeling.self_attack.noise import RandomAttack
from plugins.modeling.self_attack.statistics import StatisticsAttack
from plugins.modeling.self_attack.style import StyleAttack
from plugins.modeling.self_attack.style_worst import StyleWorstAttack
from plugins.registry import SELF_ATTACK, construct, known

# This package's kinds by their names in configs; other kinds are in the registry.
ATTACKERS = {
    "learned": SelfAttack,
    "gradient": GradientAttack,
    "random": RandomAttack,
    "style": StyleAttack,
    "style_worst": StyleWorstAttack,
    "statistics": StatisticsAttack,
    "background": BackgroundAttack,
}


def build_self_attack(cfg: CfgNode) -> FeatureAttack:
    """Build the attack that ``MODEL.SELF_ATTACK.KIND`` names.

    Raises:
        InputError: there is no such kind, EPS is more than its unit allows, or the kind is no
            attack on features, or has parameters but no losses of an attacker to train them.
    """
    kind = cfg.MODEL.SELF_ATTACK.KIND
    kinds = [*ATTACKERS, *known(SELF_ATTACK)]
    if kind not in kinds:
        raise InputError(f"MODEL.SELF_ATTACK.KIND: no kind '{kind}'; known: {', '.join(kinds)}")
    part = ATTACKERS.get(kind) or SELF_ATTACK.get(kind)
    attack = construct(part, kind, "MODEL.SELF_ATTACK.KIND", cfg)
    if not isinstance(attack, FeatureAttack):
        raise InputError(
            f"MODEL.SELF_ATTACK.KIND: {kind} builds a {type(attack).__name__}; expected a subclass "
            "of plugins.modeling.self_attack.FeatureAttack, or of Attacker if it learns"
        )
    if any(True for _ in attack.parameters()) and not isinstance(attack, Attacker):
        raise InputError(
            f"MODEL.SELF_ATTACK.KIND: {kind} has parameters, but no losses that train them; "
            "expected a subclass of plugins.modeling.self_attack.Attacker"
        )
    return attack
