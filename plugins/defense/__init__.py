"""Training a model against attack.

Importing this package registers the training steps and GOAT, an attack that papers train against.
"""

from plugins.defense import adversarial_step, dddefense_step, goat, universal_step

__all__ = ["adversarial_step", "dddefense_step", "goat", "universal_step"]
