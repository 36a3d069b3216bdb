"""Trainer, steps, launcher, checkpoints."""

from plugins.engine import steps
from plugins.engine.arguments import parse_arguments, parse_with_overrides
from plugins.engine.defaults import read_cfg, run
from plugins.engine.launch import launch
from plugins.engine.trainer import Trainer

__all__ = [
    "Trainer",
    "launch",
    "parse_arguments",
    "parse_with_overrides",
    "read_cfg",
    "run",
    "steps",
]
