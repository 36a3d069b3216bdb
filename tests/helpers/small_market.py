"""A small rendered Market-1501, and untrained networks saved as a user would have them."""

from pathlib import Path

import torch

from plugins.config import setup_cfg
from plugins.engine import Trainer
from plugins.synthetic import MARKET1501, SyntheticSettings, render_layout
from tests.helpers.small_runs import ROOT

MARKET = ROOT / "configs/Defense/synthetic/vanilla.yml"


def render_market(root: Path, test_ids: int = 4, **settings: float) -> Path:
    """A FASTREID_DATASETS folder: two training people, some frames of 32 x 16."""
    settings = {"height": 32, "width": 16, "max_frames": 12} | settings
    made = SyntheticSettings(train_ids=2, test_ids=test_ids, **settings)
    render_layout(MARKET1501, root / "Market-1501-v15.09.15", made)
    return root


def save_weights(folder: Path, config: Path, options: list[str], seed: int = 0) -> Path:
    """A checkpoint of the config's network, drawn by a seed."""
    torch.manual_seed(seed)
    model = Trainer.build_model(setup_cfg(str(config), options))
    path = folder / f"model_{seed}.pth"
    torch.save({"model": model.state_dict()}, path)
    return path
