"""Features and ranks do not depend on how the work is cut up."""

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fastreid.evaluation import inference_on_dataset
from fastreid.utils import comm

from plugins.config import setup_cfg
from plugins.data import build_test_loader
from plugins.data.datasets import HITSZVCM
from plugins.engine import Trainer
from plugins.evaluation import VVIEvaluator, ranked_lists
from tests.helpers.small_runs import CONFIG, options
from tests.helpers.two_processes import in_two_processes


def evaluate(datasets: str, folder: Path, batch_size: int) -> None:
    """Save features and full ranked lists of an untrained network with fixed weights.

    Of one clip of each tracklet, and of all its frames.
    """
    os.environ["FASTREID_DATASETS"] = datasets
    changes = {"TEST__IMS_PER_BATCH": batch_size, "MODEL__HEADS__NUM_CLASSES": 6}
    cfg = setup_cfg(str(CONFIG), options(folder, **changes))
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    found = []
    for cfg.TEST.CLIPS in (1, 0):
        loader, dataset = build_test_loader(cfg, "HITSZVCM")
        evaluator = VVIEvaluator(cfg, dataset)
        results = inference_on_dataset(model, loader, evaluator)
        if comm.is_main_process():
            ranks = ranked(dataset, evaluator)
            found.append(
                {"features": evaluator.collected.features, "ranks": ranks, "results": results}
            )
    if comm.is_main_process():
        torch.save(found, folder / f"{batch_size}_{comm.get_world_size()}.pth")


def ranked(dataset: HITSZVCM, evaluator: VVIEvaluator) -> dict[str, torch.Tensor]:
    """Full ranked lists of each direction."""
    ranks = {}
    for name, protocol in dataset.directions().items():
        query, gallery = (torch.as_tensor(side) for side in protocol.trials[0])
        sides = (evaluator.collected.select(rows) for rows in (query, gallery))
        ranks[name], _ = ranked_lists(*sides, length=len(gallery))
    return ranks


@pytest.fixture(scope="module")
def reference(datasets, tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("reference")
    evaluate(str(datasets), folder, batch_size=32)
    return torch.load(folder / "32_1.pth", weights_only=False)


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "processes"), [(1, 1), (7, 1), (7, 2)])
def test_features_and_ranks_stay(reference, datasets, tmp_path, batch_size, processes):
    arguments = (str(datasets), tmp_path, batch_size)
    if processes == 1:
        evaluate(*arguments)
    else:
        in_two_processes(evaluate, *arguments)
    path = tmp_path / f"{batch_size}_{processes}.pth"
    for found, expected in zip(torch.load(path, weights_only=False), reference, strict=True):
        torch.testing.assert_close(found["features"], expected["features"], atol=1e-5, rtol=0)
        for direction, lists in expected["ranks"].items():
            assert torch.equal(found["ranks"][direction], lists)
        assert found["results"] == expected["results"]


def test_all_frames_are_another_test_than_one_clip(reference):
    one, every = reference
    assert list(every["results"]) == ["I2V+clips=all", "V2I+clips=all", "metric"]
    assert not torch.allclose(F.normalize(one["features"], dim=1), every["features"], atol=1e-3)
