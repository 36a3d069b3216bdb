"""How an attack maximizes its objective."""

import math
from dataclasses import dataclass

from plugins.utils.values import require_number, require_whole


@dataclass(frozen=True)
class Recipe:
    """Optimizer, number of steps, and when to stop.

    Attributes:
        optimizer: "sign" for steps of one length (FGSM, I-FGSM, MI-FGSM, PGD); "apgd"; or
            "square", which uses no gradients.
        steps: gradient steps of a restart; for "square" the forward passes.
        step_size: length of a step in the threat model's norm, gray levels; "apgd" sets its own.
        random_start: start from a random point of the budget instead of the clean images. Restarts
            after the first always do.
        momentum: mu of MI-FGSM; 0 for none.
        restarts: number of starts; each row keeps the best images over all of them.
        eot: forward passes whose scores and gradients are averaged, for a stochastic model
            (expectation over transformation).
        early_stop: exclude successful rows, whose margin is above 0, from further restarts.
        skip_successful: exclude successful rows from further steps too. On a weak model this saves
            most of the work, but it leaves the objective where Rank-1 first fails, so it suits only
            attacks whose one goal is Rank-1.
    """

    optimizer: str = "sign"
    steps: int = 1
    step_size: float = 1.0
    random_start: bool = False
    momentum: float = 0.0
    restarts: int = 1
    eot: int = 1
    early_stop: bool = False
    skip_successful: bool = False

    def __post_init__(self) -> None:
        """Raise InputError, naming the argument, for a number out of its range."""
        for field, least in {"steps": 0, "restarts": 1, "eot": 1}.items():
            require_whole(getattr(self, field), f"Recipe: {field}", least)
        for field in ("step_size", "momentum"):
            require_number(getattr(self, field), f"Recipe: {field}")

    @property
    def reach(self) -> float:
        """Total length of steps of one length, in the norm; infinite where the length varies."""
        return self.steps * self.step_size if self.optimizer == "sign" else math.inf
