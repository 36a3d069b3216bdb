"""From ``MODEL.SELF_ATTACK.KIND`` to the attack."""

from fastreid.config import CfgNode

from plugins.errors import InputError
from plugins.modeling.self_attack.background import BackgroundAttack
from plugins.modeling.self_attack.base import FeatureAttack
from plugins.modeling.self_attack.gradient import GradientAttack
from plugins.modeling.self_attack.learned import SelfAttack
from plugins.modeling.self_attack.noise import RandomAttack
from plugins.modeling.self_attack.statistics import StatisticsAttack
from plugins.modeling.self_attack.style import StyleAttack
from plugins.modeling.self_attack.style_worst import StyleWorstAttack

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
    """The attack that ``MODEL.SELF_ATTACK.KIND`` names.

    Raises:
        InputError: it names none, or its EPS is more than its unit allows.
    """
    kind = cfg.MODEL.SELF_ATTACK.KIND
    if kind not in ATTACKERS:
        raise InputError(f"MODEL.SELF_ATTACK.KIND: no kind '{kind}'; known: {', '.join(ATTACKERS)}")
    return ATTACKERS[kind](cfg)
