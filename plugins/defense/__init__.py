"""Training a model against attack.

Importing this package registers the steps and the inner attacks.
"""

from plugins.defense import adversarial_step, inner_attacks

__all__ = ["adversarial_step", "inner_attacks"]
