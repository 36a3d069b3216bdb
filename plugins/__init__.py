"""Plugins for fastreid: visible-infrared video re-ID, attacks and defenses.

``import plugins`` is all a user needs: it makes fastreid 1.4.0 importable on today's stack and
registers every part of this package, so that a config can name it.
"""

from typing import TYPE_CHECKING, Any

from plugins.interrupts import quiet_import

with quiet_import():
    from plugins import compat

    compat.install()

    # For registration; the package's own modules need fastreid importable first.
    from plugins import (  # noqa: F401
        attacks,
        balancing,
        data,
        defense,
        engine,
        evaluation,
        modeling,
        robustness,
    )

if TYPE_CHECKING:
    from plugins.robustness.report import robustness_report

__all__ = ["robustness_report"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the report only where it is asked for, because it brings its pictures along."""
    if name == "robustness_report":
        from plugins.robustness.report import robustness_report

        return robustness_report
    raise AttributeError(f"module 'plugins' has no attribute '{name}'")
