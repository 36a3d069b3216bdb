"""Train and evaluate: trainer, steps, launcher, checkpoints."""

from plugins.engine import steps
from plugins.engine.defaults import read_cfg, run, run_rank
from plugins.engine.launch import launch
from plugins.engine.trainer import Trainer

__all__ = [
    "Trainer",
    "launch",
    "read_cfg",
    "run",
    "run_rank",
    "steps",
]
