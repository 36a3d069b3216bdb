"""The config: its keys, how a config is read, and a user's own parts and keys."""

from fastreid.config import CfgNode

from plugins.config.key import Key
from plugins.config.load import default_cfg, merge_overrides, read_config, setup_cfg
from plugins.config.tree import SPECS, add_keys, check_value, check_values, flatten, merge
from plugins.config.user_code import import_plugins, split_names

__all__ = [
    "SPECS",
    "CfgNode",
    "Key",
    "add_keys",
    "check_value",
    "check_values",
    "default_cfg",
    "flatten",
    "import_plugins",
    "merge",
    "merge_overrides",
    "read_config",
    "setup_cfg",
    "split_names",
]
