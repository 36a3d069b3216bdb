"""A user's file with a fault: one line of the command, before data is read and a folder is made."""

from pathlib import Path

import pytest

from tests.helpers.small_runs import CONFIG, ROOT, options
from tests.helpers.user_code import nothing_left_behind

FAULTY = """
from torch import nn
from plugins.attacks.per_query import FNA
from plugins.defense.adversarial_step import AdversarialStep
from plugins.modeling.losses import Loss
from plugins.registry import ATTACK, LOSS, STEP, TEMPORAL

@LOSS.register()
class Vector(Loss):
    key = "loss_vector"

    def value(self, outputs, targets, modalities):
        return outputs["features"].mean(dim=1)

@TEMPORAL.register()
class Short(nn.Module):
    def __init__(self, cfg):
        super().__init__()

    def forward(self, maps):
        return maps.mean(dim=(1, 3, 4))[:, :64]

@ATTACK.register()
class Scalar(FNA):
    objective = staticmethod(lambda features, guides: features.mean())

class Forgotten(Loss):
    key = "loss_forgotten"

@STEP.register()
class WithoutIndex(AdversarialStep):
    def craft(self, batch):
        return batch

@STEP.register()
class WithoutKey(AdversarialStep):
    def craft(self, batch, index=0):
        return {**batch, "images": batch["images"] + self.cfg.DEFENSE.EPSILON}

@ATTACK.register()
class WithoutSet(FNA):
    def perturbation_set(self, batch):
        pass
"""
PLAIN = {
    "MODEL__META_ARCHITECTURE": "VVIBaseline",
    "MODEL__TEMPORAL__NAME": "TemporalMean",
    "MODEL__LOSSES__NAME": "CrossEntropyLoss",
    "SOLVER__STEP": "SimpleStep",
}
ATTACKED = ["TEST.EVALUATOR", "RobustEvaluator", "TEST.ATTACKS", "Scalar"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["MODEL.LOSSES.NAME", "Vector"], "MODEL.LOSSES.NAME: Vector (faulty.py): loss_vector: the "
         "loss of a batch is a tensor (8,); expected a tensor with one number"),
        (["MODEL.TEMPORAL.NAME", "Short"], "MODEL.TEMPORAL.NAME: Short (faulty.py): it returned a "
         "tensor (4, 64), called with maps (4, 2, 512, 2, 1)"),
        (ATTACKED, "TEST.ATTACKS: Scalar (faulty.py): objective returned a tensor (); expected a "
         "tensor (5,), one value for each row"),
        (["MODEL.LOSSES.NAME", "Forgotten"], "MODEL.LOSSES.NAME: no LOSS is named 'Forgotten'; "
         "known: "),
        (["SOLVER.STEP", "WithoutIndex"], "SOLVER.STEP: WithoutIndex (faulty.py): craft(self, batch"
         "): too many positional arguments; expected craft(self, batch, index)"),
        ([*ATTACKED[:3], "WithoutSet"], "TEST.ATTACKS: WithoutSet (faulty.py): perturbation_set "
         "returned None; expected a PerturbationSet"),
    ],
    ids=["loss", "temporal part", "objective", "decorator", "step", "set"],
)  # fmt: skip
def test_a_faulty_part_is_one_line_before_data_and_folder(
    words, told, run_tool, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", "nowhere")
    Path("faulty.py").write_text(FAULTY)
    command = ["--config-file", str(CONFIG), *options(Path("run"), **PLAIN), *words]
    with nothing_left_behind():
        status, _, line = run_tool(ROOT / "tools/train_net.py", *command, "--plugins", "faulty.py")
    assert (status, line.count("\n")) == (2, 1), line
    assert line.startswith(f"error: {told}")
    assert not Path("run").exists()


@pytest.mark.slow
def test_an_exception_in_a_training_is_one_line_and_the_log_has_its_traceback(
    run_tool, tmp_path, monkeypatch, datasets
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    Path("faulty.py").write_text(FAULTY)
    words = ["--config-file", str(CONFIG), *options(Path("run"), **PLAIN)]
    words += ["SOLVER.STEP", "WithoutKey", "--plugins", "faulty.py"]
    with nothing_left_behind():
        status, printed, told = run_tool(ROOT / "tools/train_net.py", *words)
    line = "WithoutKey.craft: AttributeError in faulty.py:38: no config key EPSILON; nearest: EPS, "
    assert status == 2 and told.splitlines()[-1].startswith(f"error: {line}")
    assert "Traceback" not in printed + told
    log = Path("run/log.txt").read_text()
    assert f"ERROR: {line}" in log and "\nTraceback (most recent call last):" in log
