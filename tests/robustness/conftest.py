"""Untrained networks on rendered sets, saved as a user would have them."""

from pathlib import Path

import pytest
import torch

from plugins.config import setup_cfg
from plugins.data.synthetic import MARKET1501, SyntheticSettings, render_layout
from plugins.engine import Trainer
from tests.engine.small import CONFIG, ROOT, options

MARKET = ROOT / "configs/Defense/synthetic/vanilla.yml"


@pytest.fixture(scope="session")
def market(tmp_path_factory) -> Path:
    """A FASTREID_DATASETS folder with a small rendered Market-1501 in it."""
    root = tmp_path_factory.mktemp("images")
    settings = SyntheticSettings(train_ids=2, test_ids=4, height=32, width=16, max_frames=12)
    render_layout(MARKET1501, root / "Market-1501-v15.09.15", settings)
    return root


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> dict[Path, Path]:
    """Config file -> checkpoint of its network, drawn by a seed."""
    saved = {}
    for config in (CONFIG, MARKET):
        torch.manual_seed(0)
        model = Trainer.build_model(setup_cfg(str(config), options(Path("unused"))))
        saved[config] = tmp_path_factory.mktemp("weights") / "model.pth"
        torch.save({"model": model.state_dict()}, saved[config])
    return saved
