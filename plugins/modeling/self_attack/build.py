"""From ``MODEL.SELF_ATTACK.KIND`` to the attack."""

from fastreid.config import CfgNode

from plugins.errors import InputError
from plugins.modeling.self_attack.attacker import Attacker
from plugins.modeling.self_attack.gradient import GradientAttack
from plugins.modeling.self_attack.learned import SelfAttack
from plugins.modeling.self_attack.noise import RandomAttack

ATTACKERS = {"learned": SelfAttack, "gradient": GradientAttack, "random": RandomAttack}


def build_self_attack(cfg: CfgNode) -> Attacker | RandomAttack:
    """The attacker that ``MODEL.SELF_ATTACK.KIND`` names.

    Raises:
        InputError: it names none.
    """
    kind = cfg.MODEL.SELF_ATTACK.KIND
    if kind not in ATTACKERS:
        raise InputError(f"MODEL.SELF_ATTACK.KIND: no kind '{kind}'; known: {', '.join(ATTACKERS)}")
    return ATTACKERS[kind](cfg)
