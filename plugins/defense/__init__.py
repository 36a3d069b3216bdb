"""Training a model against attack.

Importing this package registers the steps, the inner attacks and the balanced data set.
"""

from plugins.defense import (
    adversarial_step,
    balance,
    dddefense_step,
    inner_attacks,
    universal_step,
)

__all__ = ["adversarial_step", "balance", "dddefense_step", "inner_attacks", "universal_step"]
