from pathlib import Path

import pytest

from plugins.data.synthetic import MARKET1501, SyntheticSettings, render_layout


@pytest.fixture(scope="session")
def market(tmp_path_factory) -> Path:
    """A FASTREID_DATASETS folder with a small rendered Market-1501 in it."""
    root = tmp_path_factory.mktemp("market")
    settings = SyntheticSettings(train_ids=4, test_ids=3, height=32, width=16, max_frames=12)
    render_layout(MARKET1501, root / "Market-1501-v15.09.15", settings)
    return root
