"""Robust evaluation as a user runs it: tools/train_net.py --eval-only, killed, shared, stock."""

import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests.helpers import commands
from tests.helpers.small_market import MARKET
from tests.helpers.small_runs import CONFIG, command, environment

pytestmark = pytest.mark.slow

ATTACKS = {
    "TEST__ATTACKS": "['SMA','FNA']",
    "ATTACK__STEPS": 2,
    "ATTACK__QUERIES": 8,
    "ATTACK__BATCH": 2,
    "SEED": 0,
}


def arguments(output: Path, weights: Path, *flags: str, config: Path = CONFIG, **changes):
    changes = ATTACKS | {"MODEL__WEIGHTS": weights} | changes
    return command("--eval-only", *flags, output=output, config=config, **changes)


def run(datasets: Path, *args, **changes) -> str:
    done = commands.run(arguments(*args, **changes), env=environment(datasets), timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def outcomes(folder: Path) -> dict[str, dict]:
    found = sorted((folder / "robustness").glob("*.pt"))
    return {path.stem: torch.load(path, weights_only=True)["stats"] for path in found}


def assert_same(found: dict[str, dict], expected: dict[str, dict]) -> None:
    assert found.keys() == expected.keys() and found
    for name, values in expected.items():
        for key, value in values.items():
            if torch.is_tensor(value):
                assert torch.equal(value, found[name][key]), (name, key)
            elif key != "seconds":
                assert value == found[name][key], (name, key)


@pytest.fixture(scope="module")
def uninterrupted(datasets, weights, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("robust")
    text = run(datasets, output, weights[CONFIG])
    for row in ("HITSZVCM/I2V+SMA", "HITSZVCM/V2I+FNA", "HITSZVCM/V2I+worst", "unique wins"):
        assert row in text
    return output


def test_killed_in_an_attack_and_run_again_is_bit_identical(
    uninterrupted, datasets, weights, tmp_path
):
    running = subprocess.Popen(
        arguments(tmp_path, weights[CONFIG]), env=environment(datasets), stdout=subprocess.DEVNULL
    )
    parts = tmp_path / "robustness/HITSZVCM_I2V_FNA.parts"
    deadline = time.monotonic() + 300
    while len(list(parts.glob("0*.pt"))) < 2 and time.monotonic() < deadline:
        assert running.poll() is None, "ended before it could be killed"
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("0*.pt")}
    assert len(kept) >= 2 and not (tmp_path / "robustness/HITSZVCM_I2V_FNA.pt").exists()

    text = run(datasets, tmp_path, weights[CONFIG])

    assert "I2V SMA: read from its record" in text
    assert_same(outcomes(tmp_path), outcomes(uninterrupted))
    seconds = outcomes(tmp_path)["HITSZVCM_I2V_FNA"]["seconds"]
    assert seconds > 0 and not parts.exists()


def test_two_processes_find_the_same(uninterrupted, datasets, weights, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    run(datasets, tmp_path, weights[CONFIG], "--num-gpus", "2", "--dist-url", url)
    assert_same(outcomes(tmp_path), outcomes(uninterrupted))


def test_a_stock_model_on_a_stock_image_set(market, weights, tmp_path):
    text = run(
        market,
        tmp_path,
        weights[MARKET],
        config=MARKET,
        TEST__ATTACKS="['RankMargin']",
        ATTACK__QUERIES=0,
    )
    rows = [line for line in text.splitlines() if line.startswith("| Market1501/Q2G")]
    names = [row.split("|")[1].strip().removeprefix("Market1501/") for row in rows]
    assert names == ["Q2G", "Q2G+RankMargin", "Q2G+worst"]
    (found,) = outcomes(tmp_path).values()
    queries = len(list((market / "Market-1501-v15.09.15/query").iterdir()))
    assert len(found["rows"]) == queries
    assert torch.equal(found["margin"] > 0, ~found["hit"]), "the margin is that of the ranking"
