"""A user's evaluator is tried before the first epoch, on real items without their images."""

from collections import OrderedDict
from typing import ClassVar

import pytest
import torch
from fastreid.evaluation import DatasetEvaluator

from plugins.config import setup_cfg
from plugins.engine.rehearsal import rehearse
from plugins.engine.trainer import Trainer, read_tests
from plugins.errors import InputError
from plugins.evaluation import VVIEvaluator
from plugins.registry import EVALUATOR
from tests.helpers.small_runs import CONFIG, options


class Fits(VVIEvaluator):
    """Nearest other item of each query, with a metric of its own."""

    seen: ClassVar[list] = []

    def process(self, inputs, outputs):
        super().process(inputs, outputs)
        about = sorted(inputs), inputs["img_paths"], inputs["rows"].tolist()
        self.seen.append((inputs["images"].shape, outputs.shape, about))

    def evaluate(self):
        results = super().evaluate()
        return OrderedDict({**results, "I2V": {"own": 50.0}})


class Nothing(VVIEvaluator):
    def evaluate(self):
        super().evaluate()


class NotFinite(VVIEvaluator):
    def evaluate(self):
        return {"I2V": {"mAP": float("nan")}}


class OneArgument(VVIEvaluator):
    def process(self, outputs):
        pass


class WithoutNames(DatasetEvaluator):
    def __init__(self, cfg, dataset):
        pass

    def reset(self):
        pass


@pytest.fixture(autouse=True)
def _in_datasets(datasets, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))


def small(folder, monkeypatch, evaluator):
    monkeypatch.setitem(EVALUATOR._obj_map, evaluator.__name__, evaluator)
    changes = {"TEST__EVALUATOR": evaluator.__name__, "MODEL__HEADS__NUM_CLASSES": 6}
    return setup_cfg(str(CONFIG), options(folder, **changes))


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        (Nothing, "TEST.EVALUATOR Nothing: it returned no results; expected {row"),
        (NotFinite, "TEST.EVALUATOR NotFinite: I2V mAP: nan; expected a finite number"),
        (OneArgument, r"TEST.EVALUATOR: OneArgument.process\(outputs\): too many positional "),
        (WithoutNames, "TEST.EVALUATOR: WithoutNames has no row_names; expected a subclass of"),
    ],
)
def test_a_fault_is_told_before_the_first_epoch(evaluator, message, tmp_path, monkeypatch):
    cfg = small(tmp_path, monkeypatch, evaluator)
    with pytest.raises(InputError, match=f"^{message}"):
        Trainer(cfg)


@pytest.mark.slow
def test_one_that_fits_sees_all_items_and_leaves_nothing_behind(tmp_path, monkeypatch):
    cfg = small(tmp_path, monkeypatch, Fits)
    Fits.seen.clear()
    model = Trainer.build_model(cfg).train()
    state = torch.get_rng_state()
    tests = Trainer.build_tests(cfg, model)
    assert torch.equal(torch.get_rng_state(), state) and model.training
    (loader, dataset) = tests["HITSZVCM"]
    assert sum(shape[0] for shape, *_ in Fits.seen) == len(dataset.query) + len(dataset.gallery)
    images, features, about = Fits.seen[0]
    batch = next(iter(loader))
    assert images == batch["images"].shape
    assert about == (sorted(batch), batch["img_paths"], batch["rows"].tolist())
    assert features[1] == model.eval()(batch).shape[1]
    ours = VVIEvaluator(cfg, dataset)
    rehearse(ours, cfg, read_tests(cfg)["HITSZVCM"][0], model)
    assert ours.collected is None, "an evaluator of this package needs no rehearsal"
