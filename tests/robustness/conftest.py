from pathlib import Path

import pytest

from tests.helpers.small_market import MARKET, render_market, save_weights
from tests.helpers.small_runs import CONFIG, options


@pytest.fixture(scope="session")
def market(tmp_path_factory) -> Path:
    """A FASTREID_DATASETS folder with a small rendered Market-1501 in it."""
    return render_market(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> dict[Path, Path]:
    """Config file -> checkpoint of its network, drawn by a seed."""
    return {
        config: save_weights(tmp_path_factory.mktemp("weights"), config, options(Path("unused")))
        for config in (CONFIG, MARKET)
    }
