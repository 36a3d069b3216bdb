"""Trainer, steps, launcher, checkpoints."""

from plugins.engine import steps
from plugins.engine.defaults import parse_arguments, read_cfg, run
from plugins.engine.launch import launch
from plugins.engine.trainer import Trainer

__all__ = ["Trainer", "launch", "parse_arguments", "read_cfg", "run", "steps"]
