import pytest
import torch

from plugins.config import setup_cfg
from tests.helpers.hitsz_tree import write_tree


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """Folder of all data sets with a small HITSZ-VCM; for tests that only read."""
    root = tmp_path_factory.mktemp("datasets")
    write_tree(root)
    return root


@pytest.fixture
def cfg(tree, monkeypatch):
    """A config for ``tree``: small frames, all augmentations, batches of 2 people x 2 x 2."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tree))
    cfg = setup_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.SEED = 7
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [16, 8]
    for name in ("PADDING", "FLIP", "CJ", "REA"):
        cfg.INPUT[name].ENABLED = True
    cfg.INPUT.PADDING.SIZE = 2
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("HITSZVCM",)
    cfg.DATALOADER.SAMPLER_TRAIN = "CrossModalIdentitySampler"
    cfg.DATALOADER.NUM_INSTANCE = 2
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 8
    cfg.TEST.IMS_PER_BATCH = 2
    return cfg


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
