"""Parts of a user, registered outside the package: they move, are saved, resumed and evaluated."""

from pathlib import Path

import pytest
import torch

from plugins.config import setup_cfg
from plugins.engine import Trainer
from plugins.engine.checkpoint import read_checkpoint
from plugins.engine.trainer import load_model
from tests.helpers.small_runs import CONFIG, options
from tests.helpers.two_processes import in_two_processes
from tests.helpers.user_code import OWN_PARTS, nothing_left_behind

pytestmark = pytest.mark.slow

OWN = {
    "MODEL__LOSSES__NAME": "('CrossEntropyLoss','OwnCenterLoss','OwnPlainLoss')",
    "MODEL__TEMPORAL__NAME": "OwnTemporal",
    "MODEL__HEADS__NAME": "OwnHead",
    "MODEL__SELF_ATTACK__KIND": "OwnAttacker",
    "SOLVER__MAX_EPOCH": 2,
    "SOLVER__STEPS": "[]",
    "TEST__EVAL_PERIOD": 2,
}
PARTS = {
    "loss": "loss_functions.1.centers",
    "temporal": "temporal.score.weight",
    "head": "heads.scale",
    "attacker": "attack.map.weight",
}


@pytest.fixture(autouse=True, scope="module")
def _registered():
    """The registries hold them in this module's tests alone; others look at all that they hold."""
    with nothing_left_behind():
        yield


@pytest.fixture(autouse=True)
def _in_datasets(datasets, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))


def config(folder: Path, **changes):
    return setup_cfg(str(CONFIG), options(folder, **OWN | changes), [str(OWN_PARTS)])


def start(folder: Path, **changes) -> Trainer:
    torch.manual_seed(0)
    return Trainer(config(folder, **changes))


def own(model) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    return {part: state[name].clone() for part, name in PARTS.items()}


def same(one: dict, other: dict) -> list[str]:
    return [part for part in PARTS if torch.equal(one[part], other[part])]


@pytest.fixture(scope="module")
def whole(datasets, tmp_path_factory):
    """A run to its end: its folder, and the parts before and after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(datasets))
        folder = tmp_path_factory.mktemp("whole")
        trainer = start(folder)
        before = own(trainer.model)
        trainer.train()
    return folder, before, own(trainer.model)


def test_they_move_are_saved_and_resumed_to_the_bit(whole, tmp_path):
    folder, before, after = whole
    assert same(before, after) == []
    saved = read_checkpoint(folder / "model_final.pth")["model"]
    assert same(after, {part: saved[name] for part, name in PARTS.items()}) == list(PARTS)
    resumed = start(tmp_path)
    resumed.resume_or_load(str(folder / "model_0000.pth"))
    assert same(before, own(resumed.model)) == ["attacker"]  # its first turn is in epoch 1
    resumed.train()
    assert same(after, own(resumed.model)) == list(PARTS)


def test_they_are_averaged_as_the_other_weights_are(tmp_path):
    trainer = start(tmp_path, SOLVER__EMA_DECAY=0.9)
    before = own(trainer.model)
    trainer.train()
    saved = read_checkpoint(tmp_path / "model_final.pth")
    live, average = saved["live"]["model"], saved["model"]
    for part, name in PARTS.items():
        assert torch.equal(live[name], own(trainer.model)[part])
        assert (average[name] - before[part]).norm() < (live[name] - before[part]).norm()
        assert not torch.equal(average[name], before[part])


def test_an_evaluation_needs_what_the_losses_learned_no_more_than_the_losses(whole):
    folder = whole[0]
    weights = str(folder / "model_final.pth")
    trained = read_checkpoint(weights)["model"]
    batch = {"images": torch.rand(2, 2, 3, 32, 16) * 255, "modalities": torch.tensor([0, 1])}
    features = []
    for changes in (
        {"MODEL__HEADS__NUM_CLASSES": 6},  # as in the run's config.yaml
        {},  # the YAML of the run, which leaves the number to the training set
        {"MODEL__LOSSES__NAME": "('CrossEntropyLoss',)"},
        {"MODEL__LOSSES__NAME": "('OwnCenterLoss','CrossEntropyLoss')"},
    ):
        model = load_model(config(folder, **changes), weights).eval()
        features.append(model(batch))
        assert torch.equal(model.heads.scale, trained["heads.scale"])
    assert all(torch.equal(features[0], found) for found in features)


def test_a_checkpoint_without_the_loss_is_refused_for_a_resume_alone(tmp_path):
    plain = {"MODEL__LOSSES__NAME": "('CrossEntropyLoss',)"}
    trainer = start(tmp_path, **plain)
    trainer.checkpointer.save("model_0000", epoch=0, metric=-1.0)
    assert not [name for name in trainer.model.state_dict() if name.startswith("loss")]
    path = str(tmp_path / "model_0000.pth")
    with pytest.raises(ValueError, match=r"loss_functions\.1\.centers \(missing\)"):
        start(tmp_path).resume_or_load(path)
    start(tmp_path, MODEL__WEIGHTS=path).resume_or_load(resume=False)


def train_and_save(folder: Path, datasets: str) -> None:
    import os

    from fastreid.utils import comm

    os.environ["FASTREID_DATASETS"] = datasets
    torch.manual_seed(comm.get_rank())
    short = {"SOLVER__MAX_EPOCH": 1, "SOLVER__ADVERSARY__START_EPOCH": 0}
    trainer = Trainer(config(folder, **short))
    before = own(trainer.model)
    trainer.train()
    torch.save((before, own(trainer.model)), folder / f"rank{comm.get_rank()}.pth")


def test_two_processes_train_one_model_of_them(tmp_path, datasets):
    in_two_processes(train_and_save, tmp_path, str(datasets))
    ranks = [torch.load(tmp_path / f"rank{rank}.pth") for rank in (0, 1)]
    for moment in (0, 1):
        assert same(ranks[0][moment], ranks[1][moment]) == list(PARTS)
    assert same(*ranks[0]) == []
