"""Tell whether torch.export traces a part, for the few that compute there in another way.

A traced program takes clips of any length only if no size in it is chosen by a branch on T, and
none is T - 1: torch.export takes sizes for 2 or more, and T - 1 is 1 for two frames.
"""

from collections.abc import Callable

import torch

# An older torch does not tell: there a program takes clips of one length.
exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)
