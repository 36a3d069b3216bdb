"""What a run says of itself, on the terminal and in log.txt."""

import io
import logging
import re
import subprocess
from types import SimpleNamespace

import pytest
import torch
from fastreid.utils.events import EventStorage
from torch import nn

from plugins.config import default_cfg, setup_cfg
from plugins.engine import logs
from plugins.engine.hooks import RECENT, MetricPrinter
from plugins.engine.logs import changed_settings, counting, describe_model, environment, versions
from plugins.engine.trainer import items_of


def test_versions_name_the_true_fastreid_and_the_commit_of_the_checkout():
    head = subprocess.run(
        ["git", "-C", str(logs.HOME), "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    text = versions()
    assert text.startswith("fastreid-plugins 0.1.0")
    assert f", fastreid 1.4.0, torch {torch.__version__}, Python 3." in text
    assert not head or f" (commit {head[:12]}" in text
    assert re.search(r"^fastreid +1\.4\.0 @", environment(), re.M)


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        ('{"vcs_info": {"commit_id": "0123456789abcdef"}}', "commit 0123456789ab"),
        ('{"dir_info": {}}', ""),
        (None, ""),
    ],
)
def test_an_installed_package_names_the_commit_that_pip_noted(
    noted, expected, tmp_path, monkeypatch
):
    distribution = tmp_path / "fastreid_plugins-0.1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: fastreid-plugins\n")
    if noted:
        (distribution / "direct_url.json").write_text(noted)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(logs, "HOME", tmp_path)
    logs.git_state.cache_clear()
    assert logs.git_state() == expected
    logs.git_state.cache_clear()


def test_only_settings_that_differ_are_listed():
    assert changed_settings(default_cfg()) == []
    cfg = setup_cfg(opts=["SEED", "3", "DATASETS.NAMES", "['HITSZVCM']"])
    cfg.SOLVER.STEPS = tuple(cfg.SOLVER.STEPS)  # as a dumped config may spell a list
    assert changed_settings(cfg) == [("DATASETS.NAMES", ("HITSZVCM",)), ("SEED", 3)]


@pytest.mark.parametrize("items", ["clips", "images"])
def test_fastreids_inference_counts_what_there_is(items, monkeypatch):
    logger, told = logging.getLogger("fastreid.evaluation.evaluator"), []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: told.append(record.getMessage()))
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.addHandler(handler)
    try:
        with counting(items):
            logger.info("Start inference on 72 images")
        logger.info("Start inference on 72 images")
    finally:
        logger.removeHandler(handler)
    assert told == [f"Start inference on 72 {items}", "Start inference on 72 images"]


@pytest.mark.parametrize(("lengths", "expected"), [([1, 1], "images"), ([1, 3], "clips")])
def test_items_are_clips_where_a_tracklet_has_several_frames(lengths, expected):
    items = [SimpleNamespace(img_paths=("a.jpg",) * length) for length in lengths]
    loader = SimpleNamespace(dataset=SimpleNamespace(items=items))
    assert items_of(loader) == expected


def test_a_model_is_told_by_its_size():
    assert describe_model(nn.Linear(999, 1000)) == "Linear, 1.00 million parameters"


def test_the_time_left_is_that_of_the_last_iterations(caplog):
    fast, slow, left = 1.0, 3.0, 50
    done = 1000 + RECENT
    logger = logging.getLogger("fastreid.utils.events")
    parent = logging.getLogger("fastreid")
    before, parent.propagate = parent.propagate, True
    try:
        with EventStorage() as storage, caplog.at_level(logging.INFO):
            for iteration in range(done):
                storage.iter = iteration
                storage.put_scalar("time", fast if iteration < 1000 else slow)
            storage.epoch = 0
            history = storage.histories()["time"]
            MetricPrinter(done + left).write()
            assert storage.histories()["time"] is history and len(history.values()) == done
            assert storage.latest()["eta_seconds"][0] == slow * left
    finally:
        parent.propagate = before
    assert logger.name == caplog.records[-1].name
    assert "eta: 0:02:30  epoch/iter: 0/1099" in caplog.text and "time: 3.0000" in caplog.text


def test_a_log_on_a_full_disk_says_so_once(capsys, monkeypatch):
    monkeypatch.setattr(logs, "_told_full", set())
    monkeypatch.setattr(logging, "raiseExceptions", True)
    full, loggers = open("/dev/full", "w"), []  # noqa: SIM115
    for name in ("one", "two"):
        handler = logging.StreamHandler(full)
        logs.tell_full_once(handler, "run/log.txt")
        loggers.append(logging.Logger(name))
        loggers[-1].addHandler(handler)
    for each in (*loggers, *loggers):
        each.warning("a record")
    assert capsys.readouterr().err == (
        "run/log.txt: cannot be written: No space left on device; lines of the log are lost\n"
    )
    loggers[0].warning("%d", "no number")
    assert "--- Logging error ---" in capsys.readouterr().err, "a defect keeps its traceback"
    with pytest.raises(OSError, match="No space"):
        full.close()


@pytest.mark.slow
def test_a_log_starts_beside_a_handler_whose_stream_has_no_name(tmp_path, monkeypatch):
    """Another run in this process may have logged to a terminal that is none any more."""
    kept = {name: logging.Logger(name) for name in ("fastreid", "plugins")}
    for logger in kept.values():
        logger.addHandler(logging.StreamHandler(io.StringIO()))
    monkeypatch.setattr(
        logging, "getLogger", lambda name=None: kept.setdefault(name, logging.Logger(name))
    )
    logs.start_logs(str(tmp_path), 0)
    kept["plugins"].warning("王伟")
    assert "王伟" in (tmp_path / "log.txt").read_text(encoding="utf-8")
