"""Check units and reach: is a budget in gray levels, and do the steps together reach its border?

Both are asked wherever a config becomes an attack, to test a model or to train one.
"""

import logging
import math
from collections.abc import Sequence

from fastreid.utils.logger import log_first_n

from plugins.attacks.optimizers import Recipe
from plugins.attacks.threat_model import ThreatModel
from plugins.errors import InputError


def check_budget(threat: ThreatModel, section: str, size: Sequence[int]) -> None:
    """Warn, once, of a budget below one gray level, as a share of 255 is.

    An L2 budget is compared with noise that is uniform within one gray level: its root mean square
    is 1 / sqrt(3).

    Args:
        threat: the threat model.
        section: of the config that holds EPS, for the message.
        size: height and width of a frame.
    """
    key, eps, values = f"{section}.EPS: {threat.eps:g}", threat.eps, 3 * math.prod(size)
    told = "budgets are in gray levels, 0 to 255"
    if threat.norm == "linf" and 0 < eps < 1:
        share = round(255 * eps)
        told += f", where {share}/255 is {share}" if share and share > 1 else ""
        warn_once(f"{key} is less than one gray level; {told}")
    elif threat.norm == "l2" and 0 < eps < math.sqrt(values / 3):
        spread, same = eps / math.sqrt(values), eps * math.sqrt(values / 3)
        warn_once(
            f"{key} in ATTACK.NORM l2 is {spread:.2g} gray levels a value over a frame of "
            f"{size[0]} x {size[1]}, less than noise of one gray level; an l2 budget is of all "
            f"values together: {same:.0f} is as much as noise of linf {eps:g}; {told}"
        )


def check_reach(name: str, threat: ThreatModel, recipe: Recipe, section: str = "ATTACK") -> str:
    """Find steps of one length that together are shorter than the budget.

    For L2 they are refused: published steps are those of L-inf, far too short for such a budget. A
    random start does not help, as it lies anywhere within the budget, for L2 on its border.

    Args:
        name: of the attack, for the message.
        threat: the threat model.
        recipe: how the attack climbs.
        section: of the config that holds EPS, STEPS and STEP_SIZE.

    Returns:
        What is wrong, for a warning; empty if the steps reach.

    Raises:
        InputError: they do not, and the norm is L2.
    """
    if recipe.reach >= threat.eps or math.isclose(recipe.reach, threat.eps):
        return ""
    told = (
        f"{name}: {recipe.steps} steps of {recipe.step_size:g} reach {recipe.reach:g}, less than "
        f"{section}.EPS {threat.eps:g}; for the whole budget raise {section}.STEP_SIZE or "
        f"{section}.STEPS"
    )
    if recipe.step_size < 1:
        told += "; all are in gray levels, 0 to 255"
    if threat.norm == "l2":
        raise InputError(told)
    return told


def warn_once(message: str) -> None:
    """Log a warning that this process has not logged yet."""
    log_first_n(logging.WARNING, message, name=__name__, key="message")
