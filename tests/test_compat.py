"""Each repair of fastreid 1.4.0: that it works, and that fastreid still needs it."""

import collections
import importlib.metadata
import json
import os
import subprocess
import sys

import pytest
import torch
from fastreid.engine.launch import _distributed_worker as nccl_worker
from fastreid.engine.train_loop import AMPTrainer
from fastreid.modeling.meta_arch import Baseline
from fastreid.solver import build_optimizer as build_fastreid_optimizer
from torch import nn

import plugins
from plugins import compat
from plugins.config import setup_cfg


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def torchvision_fits() -> bool:
    return python("import torchvision").returncode == 0


def test_fastreid_cannot_be_a_requirement_of_setup():
    """Row 2: the pin that makes --no-deps necessary."""
    assert any(
        line.startswith("torch (==1.13.1)") for line in importlib.metadata.requires("fastreid")
    )


def test_nothing_stays_patched():
    assert plugins.__version__
    assert not hasattr(collections, "Mapping")
    assert "torch._six" not in sys.modules


@pytest.mark.slow
def test_lent_names_are_still_needed():
    code = "from plugins import compat; compat.import_torchvision(); import fastreid.data"
    stripped = "import sys; sys.modules['plugins'] = type(sys)('plugins'); " + (
        f"sys.modules['plugins'].__path__ = {list(plugins.__path__)!r}; {code}"
    )
    failed = python(stripped)
    assert failed.returncode == 1
    assert "torch._six" in failed.stderr or "Mapping" in failed.stderr


def test_a_name_that_exists_is_not_lent(monkeypatch):
    monkeypatch.setattr(collections, "Mapping", dict, raising=False)
    with compat.lent_names():
        assert collections.Mapping is dict
    assert collections.Mapping is dict


def test_names_are_taken_back_after_a_failed_import():
    with pytest.raises(ImportError), compat.lent_names():
        raise ImportError
    test_nothing_stays_patched()


@pytest.mark.slow
def test_an_import_leaves_out_what_is_slow_and_seldom_used():
    heavy = ("sklearn", "torch._dynamo", "scipy.ndimage", "matplotlib")
    code = f"import plugins, sys; print([name for name in {heavy} if name in sys.modules])"
    assert python(code).stdout.split() == ["[]"]


@pytest.mark.slow
def test_what_is_imported_late_works():
    """The ROC of fastreid, and the operator of torchvision that asks dynamo about a device."""
    done = python(
        "import plugins, sys, torch; from fastreid.evaluation import reid_evaluation as r;"
        "a = sys.modules['torchvision.ops.roi_align'];"
        "print(r.metrics.roc_curve([0, 1], [0.2, 0.8])[1].tolist(), a.is_compile_supported('cpu'));"
        "import sklearn.metrics, torch._dynamo.utils as d;"
        "print(sklearn.metrics.auc([0, 1], [0, 1]), d.is_compile_supported('cpu'))"
    )
    assert done.returncode == 0, done.stderr
    roc, facts = done.stdout.splitlines()
    assert roc == "[0.0, 1.0, 1.0] True"
    assert facts == "0.5 True"


def test_a_module_that_is_loaded_is_not_imported_late():
    with compat.imported_late("json", "json.decoder", "imaginary", "imaginary.part"):
        assert sys.modules["json"] is json
        from imaginary import part

        with pytest.raises(AttributeError):
            part.__file__  # noqa: B018
    assert sys.modules["json"] is json
    assert not {"imaginary", "imaginary.part"} & set(sys.modules)
    with pytest.raises(ModuleNotFoundError, match="imaginary"):
        part.function()


@pytest.mark.slow
@pytest.mark.skipif(torchvision_fits(), reason="torchvision was built for this torch")
def test_torchvision_of_another_build_is_repaired():
    assert "torchvision::nms does not exist" in python("import torchvision").stderr
    done = python(
        "import plugins, torch, torchvision.transforms.v2 as v2, torchvision.models as m;"
        "v2.Resize((4, 2))(torch.zeros(3, 8, 8)); m.resnet18()"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_torchvision_that_fails_otherwise_is_not_hidden(tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('broken driver')")
    failed = python("import plugins", PYTHONPATH=str(tmp_path))
    assert "broken driver" in failed.stderr


@pytest.mark.slow
def test_another_fastreid_is_refused_in_one_sentence(tmp_path):
    folder = tmp_path / "fastreid-9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: fastreid\nVersion: 9.9\n")
    failed = python("import plugins", PYTHONPATH=str(tmp_path))
    assert failed.stderr.strip().splitlines()[-1] == (
        "ImportError: fastreid 9.9 is installed but 1.4.0 is needed: "
        "run `pip install --no-deps fastreid==1.4.0`"
    )


def test_a_missing_fastreid_is_named_with_the_command(monkeypatch):
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ImportError, match=r"run `pip install --no-deps fastreid==1\.4\.0`"):
        compat.require_fastreid()


def test_fastreid_still_trains_without_learning():
    """Row 1: the reason for plugins.engine.optimizer."""
    cfg = setup_cfg("", ["SOLVER.OPT", "SGD", "SOLVER.BASE_LR", "1.0"])
    model = nn.Linear(2, 1)
    optimizer, _ = build_fastreid_optimizer(cfg, model)
    before = model.weight.detach().clone()
    optimizer.zero_grad()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.equal(model.weight, before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="fastreid runs on CUDA")
def test_fastreid_still_needs_cuda_to_launch_and_for_mixed_precision():
    """Rows 10 and 11: the reason for plugins.engine.launch and mixed_precision."""
    with pytest.raises(AssertionError, match="cuda is not available"):
        nccl_worker(0, print, 2, 2, 0, "tcp://127.0.0.1:29600", ())
    model = nn.Linear(2, 1)
    with pytest.raises(AssertionError, match="CUDA is required"):
        AMPTrainer(model, [], None, None).run_step()


@pytest.mark.slow
def test_fastreid_still_compiles_to_evaluate():
    """Row 6: the reason for plugins.evaluation.ranking."""
    failed = python(
        "import plugins; from fastreid.evaluation import ReidEvaluator; ReidEvaluator(None, 1)",
        PATH="",
    )
    assert failed.returncode == 1


class TestStockModel:
    """Row 13: fastreid's Baseline writes into the batch it is given."""

    @pytest.fixture
    def model(self) -> nn.Module:
        cfg = setup_cfg("", ["MODEL.DEVICE", "cpu", "MODEL.HEADS.NUM_CLASSES", "2"])
        cfg.MODEL.BACKBONE.DEPTH, cfg.MODEL.BACKBONE.FEAT_DIM = "18x", 512
        return Baseline(cfg).eval()

    def test_repair_is_still_needed(self, model):
        images = torch.full((1, 3, 32, 16), 128.0)
        model({"images": images})
        assert not torch.equal(images, torch.full_like(images, 128.0))

    def test_batch_stays_as_it_was(self, model):
        compat.protect_input(model)
        batch = {"images": torch.full((1, 3, 32, 16), 128.0)}
        first, second = model(batch), model(batch["images"])
        assert torch.equal(batch["images"], torch.full_like(batch["images"], 128.0))
        assert torch.equal(first, second)

    def test_a_gradient_reaches_the_images(self, model):
        images = torch.full((1, 3, 32, 16), 128.0, requires_grad=True)
        compat.protect_input(model)({"images": images}).sum().backward()
        assert images.grad.abs().sum() > 0

    def test_other_models_get_no_copy(self):
        assert not compat.protect_input(nn.Identity())._forward_pre_hooks
