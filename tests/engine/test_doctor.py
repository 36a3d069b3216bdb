"""What a machine has is told; what would hinder a run has its advice."""

import ast
import collections
import importlib.metadata
import os
import re
import subprocess
import sys

import pytest
import torch

from plugins.engine import doctor, trial_step
from tests.helpers.small_runs import ROOT


@pytest.mark.slow
def test_one_step_moves_every_weight_and_leaves_the_random_state():
    before = torch.random.get_rng_state()
    moved, total = trial_step.moved_weights("cpu")
    assert moved == total > 60
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.slow
def test_an_optimizer_that_moves_nothing_is_told(monkeypatch):
    class Still(torch.optim.SGD):
        def step(self, closure=None):
            return None

    monkeypatch.setattr(
        trial_step, "build_optimizer", lambda cfg, model: Still(model.parameters(), lr=1.0)
    )
    (finding,) = doctor.examine_training()
    assert finding.fact.startswith("one step on cpu moves 0 of ")
    assert "reinstall" in finding.advice


def test_old_and_missing_packages_are_told(monkeypatch):
    installed = importlib.metadata.version

    def version(name):
        if name == "scipy":
            return "1.9.0"
        if name == "tqdm":
            raise importlib.metadata.PackageNotFoundError
        return installed(name)

    assert not [finding for finding in doctor.examine_versions() if finding.advice]
    monkeypatch.setattr(importlib.metadata, "version", version)
    _, finding = doctor.examine_versions()
    assert finding.fact == "scipy 1.9.0 is older than 1.11, tqdm is missing"
    assert finding.advice == "pip install --upgrade fastreid-plugins"


@pytest.mark.parametrize(
    ("version", "least", "older"),
    [("2.13.0+cpu", "2.4", False), ("2.3.1", "2.4", True), ("1.26", "1.26", False)],
)
def test_versions_are_compared_as_numbers(version, least, older):
    assert (doctor._numbers(version) < doctor._numbers(least)) is older


def test_repairs_are_those_that_this_python_needs(monkeypatch):
    assert "collections.Mapping" in next(doctor.examine_repairs()).fact
    monkeypatch.setattr(collections, "Mapping", dict, raising=False)
    assert "collections.Mapping" not in next(doctor.examine_repairs()).fact


def test_data_sets_are_found_by_the_folders_of_their_readers(tmp_path, monkeypatch):
    folders = doctor.dataset_folders()
    assert folders["HITSZVCM"] == "HITSZ-VCM"
    assert folders["Market1501"] == "Market-1501-v15.09.15"
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    (finding,) = doctor.examine_data()
    assert "none" in finding.fact
    assert "make demo" in finding.advice
    (tmp_path / "HITSZ-VCM").mkdir()
    (finding,) = doctor.examine_data()
    assert finding.fact.startswith(f"{tmp_path} (FASTREID_DATASETS): HITSZVCM (HITSZ-VCM)")
    assert not finding.advice
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "gone"))
    (finding,) = doctor.examine_data()
    assert finding.advice.startswith("set FASTREID_DATASETS")


def test_a_folder_that_cannot_be_written_and_a_full_disk_are_told(tmp_path, monkeypatch):
    (finding,) = doctor.examine_folder("disk", tmp_path / "gone")
    assert "No such file or directory" in finding.fact
    assert finding.advice
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(2**40, 0, 2**30))
    (finding,) = doctor.examine_folder("disk", tmp_path)
    assert finding.fact.endswith("1.0 GiB free")
    assert finding.advice == "make room: runs want 5.0 GiB or more"
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(2**26, 0, 2**26))
    (finding,) = doctor.examine_shared_memory(tmp_path)
    assert "--shm-size" in finding.advice
    (finding,) = doctor.examine_shared_memory(tmp_path / "gone")
    assert finding.advice == "add DATALOADER.NUM_WORKERS 0"


def test_more_threads_than_cores_are_told():
    cores = len(os.sched_getaffinity(0))
    (finding,) = doctor.examine_threads(cores)
    assert not finding.advice
    (finding,) = doctor.examine_threads(cores + 1)
    assert f"OMP_NUM_THREADS={cores}" in finding.advice


def extras_of_setup() -> dict[str, list[str]]:
    """The extras of setup.py that a user may need, with their packages."""
    (call,) = (
        node.value
        for node in ast.parse((ROOT / "setup.py").read_text()).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    )
    (listed,) = (word.value for word in call.keywords if word.arg == "extras_require")
    pairs = zip(listed.keys, listed.values, strict=True)
    return {
        key.value: [each.value.partition(">=")[0] for each in values.elts]
        for key, values in pairs
        if key.value not in ("docs", "test")
    }


def test_the_extras_are_those_of_setup_and_of_the_page_that_lists_them(monkeypatch):
    listed = extras_of_setup()
    page = (ROOT / "docs/getting-started.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\w-]+(?:, [\w-]+)*) \|", page, re.M)
    assert {extra: packages.split(", ") for extra, packages in rows} == listed
    assert set(doctor.USES) == set(listed)
    needs = [f'{name}>=1; extra == "{extra}"' for extra, names in listed.items() for name in names]
    needs += [
        "torch>=2.4",
        'pytest>=8; extra == "test"',
        'mkdocstrings[python]>=1; extra == "docs"',
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needs)
    assert doctor.extras() == listed


def test_a_missing_extra_is_told_with_its_use_and_its_packages(monkeypatch):
    needs = ['torch>=2; extra == "video"', 'no-such>=1; extra == "onnx"', "scipy>=1"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needs)
    assert [tuple(finding) for finding in doctor.examine_extras()] == [
        ("extras", "video installed", ""),
        (
            "extra onnx",
            'no-such is not installed; for the export: pip install "fastreid-plugins[onnx]"',
            "",
        ),
    ]


@pytest.mark.slow
def test_the_command_says_what_to_do_and_then_that_all_is_done(tmp_path):
    def run(root):
        return subprocess.run(
            [sys.executable, ROOT / "tools/doctor.py", "--out", tmp_path],
            env={**os.environ, "FASTREID_DATASETS": str(root), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )

    done = run(tmp_path)
    assert done.returncode == 1, done.stderr
    assert "OK  training: one step on cpu moves" in done.stdout
    before = advised(done.stdout)
    assert "data" in before
    assert done.stdout.endswith(f"{len(before)} to do\n")
    (tmp_path / "HITSZ-VCM").mkdir()
    done = run(tmp_path)
    assert advised(done.stdout) == before - {"data"}  # such as a small /dev/shm
    assert done.returncode == bool(before - {"data"})


def advised(text):
    return {line[4:].split(":")[0] for line in text.splitlines() if line.startswith("DO")}
