import gc
import logging
import multiprocessing
from collections import Counter
from pathlib import Path

import hypothesis
import pytest
import torch
from fastreid.utils.logger import _LOG_COUNTER

from plugins.synthetic import (
    MARKET1501,
    SyntheticSettings,
    render_hitsz_vcm,
    render_layout,
)
from tests.helpers import memory

# A machine with much else to do is no reason to fail.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked ``gpu`` on a machine without one, and begin with the slowest modules.

    No worker then waits long for the last module of another one.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (-slow[item.path], -tests[item.path]))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


def pytest_collection_finish() -> None:
    """Keep what all tests share out of later collections, of which each would look at it all."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _each_test_is_warned_anew():
    """What is logged once in a process is logged once in a test."""
    _LOG_COUNTER.clear()


@pytest.fixture(autouse=True)
def _each_test_is_rid_of_closed_streams():
    """A handler that an earlier test left on a stream that was closed with it only fails."""
    for name in ("plugins", "fastreid"):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if getattr(getattr(handler, "stream", None), "closed", False):
                logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def _each_test_ends_its_workers():
    """A trainer that is garbage keeps its loaders' workers, and these the memory of their fork."""
    yield
    if multiprocessing.active_children():
        gc.collect()


@pytest.fixture(autouse=True, scope="module")
def _each_module_frees_its_memory():
    yield
    memory.free()


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FASTREID_DATASETS folder with a small rendered HITSZ-VCM in it."""
    root = tmp_path_factory.mktemp("datasets")
    settings = SyntheticSettings(train_ids=6, test_ids=4, height=32, width=16)
    render_hitsz_vcm(root / "HITSZ-VCM", settings, workers=1)
    return root


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FASTREID_DATASETS folder with a small rendered Market-1501 in it."""
    root = tmp_path_factory.mktemp("market")
    settings = SyntheticSettings(train_ids=4, test_ids=3, height=32, width=16, max_frames=12)
    render_layout(MARKET1501, root / "Market-1501-v15.09.15", settings)
    return root
