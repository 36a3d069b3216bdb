"""tools/balance_data.py as a user meets it: the tasks in a row, and a kill."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from plugins.balancing import runs
from plugins.balancing.planner import Slot
from plugins.balancing.tables import MANIFEST, PLAN, Outcome, read_table, write_table
from plugins.config import setup_cfg
from plugins.engine import Trainer
from plugins.synthetic import MARKET1501, SyntheticSettings, render_layout
from plugins.utils.locks import hold
from tests.helpers.balance_configs import CONFIG, TEACHER

TOOL = Path(__file__).resolve().parents[2] / "tools/balance_data.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a rendered set, a config and an untrained teacher."""
    folder = tmp_path_factory.mktemp("balance")
    settings = SyntheticSettings(train_ids=2, test_ids=2, height=32, width=16, max_frames=12)
    render_layout(MARKET1501, folder / "datasets/Market-1501-v15.09.15", settings, workers=1)
    (folder / "balanced.yml").write_text(CONFIG)
    (folder / "teacher.yaml").write_text(TEACHER)
    model = Trainer.build_model(setup_cfg(str(folder / "teacher.yaml")))
    torch.save({"model": model.state_dict()}, folder / "teacher.pth")
    return folder


@pytest.fixture
def balance_data(folder, monkeypatch, run_tool):
    """Runs the tool in this process; gives its exit status and output."""
    monkeypatch.setenv("FASTREID_DATASETS", "datasets")
    monkeypatch.chdir(folder)

    def run(task: str, *opts: str) -> tuple[int, str, str]:
        return run_tool(TOOL, task, "--config-file", "balanced.yml", *opts)

    return run


@pytest.mark.slow
def test_the_tasks_follow_each_other(balance_data, folder, monkeypatch):
    monkeypatch.setattr(runs, "train_judge", functools.partial(runs.train_judge, steps=20))
    status, out, _ = balance_data("plan")
    assert status == 0
    assert out.splitlines()[-1] == "plan: datasets/balance/plan.csv"
    assert balance_data("train")[:2] == (0, "generator: datasets/balance/generator.pth\n")
    status, out, _ = balance_data("measure", "DATASETS.BALANCE.GENERATOR.SAMPLING_STEPS", "1")
    assert status == 0
    assert "| both, of accepted" in out
    rows = json.loads((folder / "datasets/balance/precision.json").read_text())["rows"]
    assert [row["pairs"] for row in rows] == ["seen", "unseen"] and rows[0]["images"] > 0
    assert balance_data("generate")[:2] == (0, "manifest: datasets/balance/manifest.csv\n")
    status, out, _ = balance_data("inspect")
    assert status == 0
    rows = read_table(folder / "datasets/balance/manifest.csv", Outcome)
    filled = [row for row in rows if row.path]
    assert f"| total      |{len(rows):8} |{len(filled):9} |" in out
    assert len(list((folder / "datasets/balance/images").iterdir())) == len(filled)
    for name in ("sheet", "charts"):
        assert f"picture: datasets/balance/{name}.png" in out
        with Image.open(folder / f"datasets/balance/{name}.png") as picture:
            picture.load()


@pytest.mark.slow
def test_what_was_made_for_another_set_is_refused(balance_data, folder):
    here, place = ("DATASETS.BALANCE.DIR", "other"), folder / "datasets/other"
    assert balance_data("plan", *here)[0] == 0
    assert balance_data("train", *here, "DATASETS.BALANCE.GENERATOR.STEPS", "1")[0] == 0
    data = torch.load(place / "generator.pth", weights_only=True)
    data["people"][0] = "nobody"
    torch.save(data, place / "generator.pth")
    for task in ("generate", "measure"):
        status, _, err = balance_data(task, *here)
        assert status == 2
        assert "other/generator.pth: trained with people (2 names)" in err.splitlines()[-1]
    slots = read_table(place / PLAN, Slot)
    write_table(place / PLAN, Slot, [slots[0]._replace(person="nobody"), *slots[1:]])
    outcomes = [Outcome(*slots[0], "", 1, 0, 2, 0, 0, 0.0)]
    write_table(place / MANIFEST, Outcome, outcomes)
    for task in ("generate", "inspect"):
        status, _, err = balance_data(task, *here)
        assert status == 2
        assert "other/plan.csv: not the plan of DATASETS.BALANCE.NAME Market1501" in err


@pytest.mark.parametrize("task", ["plan", "train", "measure", "generate", "inspect"])
def test_a_folder_in_use_is_refused(balance_data, folder, task):
    place = folder / "datasets/held"
    with hold(place, "DATASETS.BALANCE.DIR", "balancing"):
        status, out, err = balance_data(task, "DATASETS.BALANCE.DIR", "held")
        assert (status, out) == (2, "")
        assert err.splitlines()[-1].startswith(
            "error: DATASETS.BALANCE.DIR datasets/held: in use by another balancing, process "
            f"{os.getpid()} on "
        )
    assert not place.exists()


@pytest.mark.slow
def test_a_manifest_that_is_not_whole_is_told(balance_data, folder, caplog):
    here, place = ("DATASETS.BALANCE.DIR", "half"), folder / "datasets/half"
    assert balance_data("plan", *here)[0] == 0
    slots = read_table(place / PLAN, Slot)
    for number, told in ((1, True), (len(slots), False)):
        rows = [Outcome(*slot, "", 1, 0, 2, 0, 0, 0.0) for slot in slots[:number]]
        write_table(place / MANIFEST, Outcome, rows)
        caplog.clear()
        assert balance_data("inspect", *here)[0] == 0
        assert (f"half/manifest.csv: 1 of the {len(slots)} slots" in caplog.text) == told


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(balance_data, folder):
    steps = ["DATASETS.BALANCE.GENERATOR.STEPS", "20"]
    assert balance_data("train", "DATASETS.BALANCE.DIR", "whole", *steps)[0] == 0
    command = [sys.executable, str(TOOL), "train", "--config-file", "balanced.yml"]
    command += ["DATASETS.BALANCE.DIR", "killed", *steps]
    environment = os.environ | {"FASTREID_DATASETS": "datasets", "OMP_NUM_THREADS": "1"}
    training = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    checkpoint = folder / "datasets/killed/generator.pth"
    while not checkpoint.exists() and training.poll() is None:
        time.sleep(0.01)
    training.send_signal(signal.SIGKILL)
    training.wait()
    assert len(torch.load(checkpoint, weights_only=True)["losses"]) < 20
    assert balance_data("train", "DATASETS.BALANCE.DIR", "killed", *steps)[0] == 0
    losses = [(folder / f"datasets/{name}/losses.csv").read_bytes() for name in ("whole", "killed")]
    assert losses[0] == losses[1]
    whole, killed = (
        torch.load(folder / f"datasets/{name}/generator.pth", weights_only=True)
        for name in ("whole", "killed")
    )
    for name, weights in whole["model"].items():
        assert torch.equal(weights, killed["model"][name])
    for one, two in zip(whole["average"]["shadow_params"], killed["average"]["shadow_params"],
                        strict=True):  # fmt: skip
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("task", "opts", "message"),
    [
        ("generate", ["DATASETS.BALANCE.DIR", "new"], "new/plan.csv: no such file"),
        ("inspect", ["DATASETS.BALANCE.DIR", "new"], "new/manifest.csv: no such file"),
        ("plan", ["DATASETS.BALANCE.NAME", "Market150"], "known: Market1501"),
        ("plan", ["DATASETS.BALANCE.DELTA2", "2.0"], "DATASETS.BALANCE.DELTA2: 2.0"),
        ("train", ["DATASETS.BALANCE.GENERATOR.STEPS", "0"], "STEPS: 0; expected 1 or more"),
        ("train", ["DATASETS.BALANCE.GENERATOR.BATCH", "0"], "BATCH: 0; expected 1 or more"),
        ("train", ["DATASETS.BALANCE.GENERATOR.LAYERS", "0"], "LAYERS: 0; expected 1 or more"),
        ("train", ["DATASETS.BALANCE.GENERATOR.UNKNOWN", "1.0"], "UNKNOWN: 1.0; expected 0 or"),
        ("train", ["DATASETS.BALANCE.GENERATOR.EMA", "1.5"], "EMA: 1.5; expected 0 or more, below"),
        ("train", ["DATASETS.BALANCE.GENERATOR.BASE_LR", "-0.1"], "BASE_LR: -0.1; expected more"),
        ("generate", ["DATASETS.BALANCE.GENERATOR.SAMPLING_STEPS", "0"], "SAMPLING_STEPS: 0; exp"),
        ("generate", ["DATASETS.BALANCE.GENERATOR.GUIDANCE", "-1.0"], "GUIDANCE: -1.0; expected 0"),
    ],
)
def test_mistakes_are_one_line(task, opts, message, balance_data):
    status, _, err = balance_data(task, *opts)
    assert status == 2
    last = err.splitlines()[-1]
    assert last.startswith("error: ") and message in last
