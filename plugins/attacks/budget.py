"""Checks of a budget: it is in gray levels, and the steps together reach its border.

Both apply wherever a config becomes an attack, to test a model or to train one.
"""

import logging
import math
from collections.abc import Sequence

from fastreid.utils.logger import log_first_n

from plugins.attacks.recipe import Recipe
from plugins.attacks.threat_model import ThreatModel
from plugins.errors import InputError


def check_units_and_reach(
    name: str, threat: ThreatModel, recipe: Recipe, section: str, size: Sequence[int]
) -> None:
    """Warn, once, of a budget in other units and of steps that do not reach it.

    Args:
        name: name of the attack, for the message.
        threat: the threat model.
        recipe: the recipe of the attack.
        section: section of the config that holds EPS, STEPS and STEP_SIZE.
        size: height and width of a frame.

    Raises:
        InputError: steps do not reach an L2 budget.
    """
    check_budget(threat, section, size)
    if warning := check_reach(name, threat, recipe, section):
        warn_once(warning)


def check_budget(threat: ThreatModel, section: str, size: Sequence[int]) -> None:
    """Warn, once, of a budget of 0, or below one gray level, such as a share of 255.

    An L2 budget is compared with noise that is uniform within one gray level, whose root mean
    square is 1 / sqrt(3).

    Args:
        threat: the threat model.
        section: section of the config that holds EPS, for the message.
        size: height and width of a frame.
    """
    key, eps, values = f"{section}.EPS: {threat.eps:g}", threat.eps, 3 * math.prod(size)
    unit = "budgets are in gray levels, 0 to 255"
    if eps == 0:
        warn_once(f"{key} allows no change: attacked images are the clean ones; {unit}")
    if threat.norm == "linf" and 0 < eps < 1:
        share = round(255 * eps)
        unit += f", where {share}/255 is {share}" if share and share > 1 else ""
        warn_once(f"{key} is less than one gray level; {unit}")
    elif threat.norm == "l2" and 0 < eps < math.sqrt(values / 3):
        per_value, equivalent = eps / math.sqrt(values), eps * math.sqrt(values / 3)
        warn_once(
            f"{key} in ATTACK.NORM l2 is {per_value:.2g} gray levels a value over a frame of "
            f"{size[0]} x {size[1]}, less than noise of one gray level; an l2 budget is of all "
            f"values together: {equivalent:.0f} is as much as noise of linf {eps:g}; {unit}"
        )


def check_reach(name: str, threat: ThreatModel, recipe: Recipe, section: str = "ATTACK") -> str:
    """Check whether the steps together are as long as the budget.

    Shorter steps are refused for L2, because published step sizes are those of L-inf, far too short
    for such a budget. A random start does not help: it lies anywhere within the budget, or for L2
    on its border.

    Args:
        name: name of the attack, for the message.
        threat: the threat model.
        recipe: the recipe of the attack.
        section: section of the config that holds EPS, STEPS and STEP_SIZE.

    Returns:
        A warning; empty if the steps reach the budget.

    Raises:
        InputError: they do not reach it, and the norm is L2.
    """
    if recipe.reach >= threat.eps or math.isclose(recipe.reach, threat.eps):
        return ""
    message = (
        f"{name}: {recipe.steps} steps of {recipe.step_size:g} reach {recipe.reach:g}, less than "
        f"{section}.EPS {threat.eps:g}; for the whole budget raise {section}.STEP_SIZE or "
        f"{section}.STEPS"
    )
    if recipe.step_size < 1:
        message += "; all are in gray levels, 0 to 255"
    if threat.norm == "l2":
        raise InputError(message)
    return message


def warn_once(message: str) -> None:
    """Log a warning that this process has not logged yet."""
    log_first_n(logging.WARNING, message, name=__name__, key="message")
