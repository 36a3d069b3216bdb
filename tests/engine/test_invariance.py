"""Features and ranks do not depend on how the work is cut up."""

import os
from pathlib import Path

import pytest
import torch
from fastreid.evaluation import inference_on_dataset
from fastreid.utils import comm

from plugins.config import setup_cfg
from plugins.data import build_test_loader
from plugins.engine import Trainer
from plugins.evaluation import VVIEvaluator, ranked_lists
from tests.engine.small import CONFIG, options
from tests.engine.test_distributed import in_two_processes


def evaluate(datasets: str, folder: Path, batch_size: int) -> None:
    """Save features and full ranked lists of an untrained network with fixed weights."""
    os.environ["FASTREID_DATASETS"] = datasets
    changes = {"TEST__IMS_PER_BATCH": batch_size, "MODEL__HEADS__NUM_CLASSES": 6}
    cfg = setup_cfg(str(CONFIG), options(folder, **changes))
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    loader, dataset = build_test_loader(cfg, "HITSZVCM")
    evaluator = VVIEvaluator(cfg, dataset)
    results = inference_on_dataset(model, loader, evaluator)
    if not comm.is_main_process():
        return
    ranks = {}
    for name, sides in dataset.directions().items():
        query, gallery = (torch.as_tensor(side) for side in sides)
        labels = [x[rows] for x in (evaluator.pids, evaluator.camids) for rows in (query, gallery)]
        lists, _ = ranked_lists(
            evaluator.features[query], evaluator.features[gallery], *labels, length=len(gallery)
        )
        ranks[name] = lists
    name = f"{batch_size}_{comm.get_world_size()}.pth"
    torch.save({"features": evaluator.features, "ranks": ranks, "results": results}, folder / name)


@pytest.fixture(scope="module")
def reference(datasets, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("reference")
    evaluate(str(datasets), folder, batch_size=32)
    return torch.load(folder / "32_1.pth", weights_only=False)


@pytest.mark.parametrize(("batch_size", "processes"), [(1, 1), (7, 1), (7, 2)])
def test_features_and_ranks_stay(reference, datasets, tmp_path, batch_size, processes):
    arguments = (str(datasets), tmp_path, batch_size)
    if processes == 1:
        evaluate(*arguments)
    else:
        in_two_processes(evaluate, *arguments)
    found = torch.load(tmp_path / f"{batch_size}_{processes}.pth", weights_only=False)
    torch.testing.assert_close(found["features"], reference["features"], atol=1e-5, rtol=0)
    for direction, lists in reference["ranks"].items():
        assert torch.equal(found["ranks"][direction], lists)
    assert found["results"] == reference["results"]
