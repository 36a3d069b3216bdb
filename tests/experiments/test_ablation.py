"""An ablation's file, its record and its table; the runs themselves are in tests/tools."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from plugins.errors import InputError
from plugins.experiments import (
    execute,
    plan_runs,
    read_ablation,
    read_results,
    record_result,
    split_stale,
    table,
    write_table,
)
from plugins.experiments.jobs import StopSignals, end
from plugins.experiments.plan import difference
from plugins.experiments.processes import LocalProcess, current_commit, device_name, start
from plugins.experiments.runs import LOG, MARKER, RunError
from plugins.experiments.signs import gather_signs
from plugins.experiments.stages import spelt
from tests.helpers.ablation_files import STAND_IN, TREE, result, write
from tests.helpers.small_runs import CONFIG, ROOT


def cells(text: str, row: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| `{row}`"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.slow
def test_table_has_mean_spread_number_and_difference_to_the_first_row(tmp_path):
    ablation = read_ablation(write(tmp_path))
    baseline, margin = [(50.0, 20.0), (52.0, 26.0), (57.0, 20.0)], [(60.0, 19.0), (61.0, 18.0)]
    results = [result(ablation, "baseline", s, *pair) for s, pair in enumerate(baseline)]
    results += [result(ablation, "margin", s, *pair) for s, pair in enumerate(margin)]
    text = table(ablation, results)
    assert cells(text, "baseline")[1:] == ["53.0 ± 3.6", "22.0 ± 3.5", "3", "the skeleton"]
    assert cells(text, "margin")[1:] == [
        "60.5 ± 0.7 (+9.5 ± 0.7)",
        "18.5 ± 0.7 (-4.5 ± 4.9)",
        "2",
        "another margin",
    ]
    # By hand: deviations of 50, 52, 57 from 53 are -3, -1, 4, so the variance is 26 / 2; of the two
    # seeds that both rows have, the differences are 10 and 9, and -1 and -8.
    assert statistics.stdev([50.0, 52.0, 57.0]) == pytest.approx(13**0.5)
    assert statistics.stdev([-1.0, -8.0]) == pytest.approx(24.5**0.5)


@pytest.mark.slow
def test_a_table_waits_for_the_process_that_is_recording(tmp_path):
    ablation = read_ablation(write(tmp_path))
    record_result(ablation, result(ablation, "margin", 0, 60.0, 19.0))
    lock = os.open(ablation.results.parent, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    writing = threading.Thread(target=write_table, args=[ablation])
    writing.start()
    writing.join(timeout=0.5)
    assert writing.is_alive()
    os.close(lock)
    writing.join(timeout=10)
    assert not writing.is_alive()


def test_one_seed_has_no_spread_and_a_row_without_results_no_numbers(tmp_path):
    ablation = read_ablation(write(tmp_path))
    text = table(ablation, [result(ablation, "margin", 0, 60.0, 19.0)])
    assert cells(text, "baseline")[1:4] == ["-", "-", "0"]
    assert cells(text, "margin")[1:4] == ["60.0", "19.0", "1"]


def test_rows_and_columns_stand_in_the_order_of_the_file(tmp_path):
    rows = dict(reversed(TREE["rows"].items()))
    text = table(read_ablation(write(tmp_path, rows=rows, metrics=["V2I/mAP", "I2V/mINP"])), [])
    assert text.index("`margin`") < text.index("`baseline`")
    assert text.index("V2I mAP") < text.index("I2V mINP")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"options": {"SOLVER.MAX_EPOCH": 3}}, "SOLVER.MAX_EPOCH 2 (now 3)"),
        (
            {"rows": {"margin": {"overrides": {"MODEL.SELF_ATTACK.MARGIN": 0.1}}}},
            "MODEL.SELF_ATTACK.MARGIN 0.5 (now 0.1)",
        ),
        ({"rows": {"margin": {}}}, "MODEL.SELF_ATTACK.MARGIN 0.5 (now unset)"),
        (
            {"dataset": {"name": "tiny", "render": {"preset": "quick", "train_ids": 7}}},
            "render.train_ids 6 (now 7)",
        ),
        ({"dataset": {"name": "tiny"}}, "render given (now unset)"),
        ({"dataset": {**TREE["dataset"], "name": "other"}}, "dataset tiny (now other)"),
        ({"rows": {"baseline": {}}}, "no such row"),
    ],
)
def test_a_result_of_other_settings_is_stale_by_name_and_not_in_the_table(tmp_path, changes, why):
    ablation = read_ablation(write(tmp_path))
    record_result(ablation, result(ablation, "margin", 1, 60.0, 19.0))
    changed = read_ablation(write(tmp_path, **changes))
    assert split_stale(changed, read_results(changed.results)) == ([], {"margin/seed1": why})
    text = write_table(changed).read_text()
    assert "60.0" not in text
    assert "margin/seed1" in text


@pytest.mark.slow
def test_two_files_of_a_project_share_no_folder_of_a_run(tmp_path):
    first = write(tmp_path)
    second = first.with_name("other.yml")
    second.write_text(first.read_text())
    folders = set()
    for file in (first, second):
        ablation = read_ablation(file)
        runs = plan_runs(ablation, ablation.choose(None), [0], tmp_path / "logs")
        folders |= {run.folder for run in runs}
    assert len(folders) == 2 * len(TREE["rows"])


@pytest.mark.slow
def test_a_set_of_another_layout_is_rendered_where_its_reader_looks(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    small = {"preset": "quick", "train_ids": 2, "test_ids": 2, "height": 32, "width": 16}
    dataset = {"name": "images", "render": {**small, "layout": "market1501"}}
    ablation = read_ablation(write(tmp_path, dataset=dataset))
    ablation.dataset.prepare(workers=1)
    assert any(ablation.dataset.root().glob("Market-1501-v15.09.15/query/*.jpg"))
    assert ablation.dataset.record()["layout"] == "market1501"
    with pytest.raises(InputError, match="no layout 'market'; known: market1501"):
        read_ablation(write(tmp_path, dataset={"name": "x", "render": {"layout": "market"}}))


@pytest.mark.slow
def test_a_changed_base_config_makes_results_stale(tmp_path):
    base = tmp_path / "base.yml"
    base.write_text(f"_BASE_: {CONFIG}\nSOLVER:\n  BASE_LR: 0.1\n")
    ablation = read_ablation(write(tmp_path, config=str(base)))
    found = result(ablation, "margin", 0, 60.0, 19.0)
    base.write_text(f"_BASE_: {CONFIG}\nSOLVER:\n  BASE_LR: 0.2\n")
    now = read_ablation(ablation.file)
    assert difference(found, now.wanted(now.rows["margin"])) == ["SOLVER.BASE_LR 0.1 (now 0.2)"]


@pytest.mark.slow
def test_other_weights_at_the_start_make_results_stale_and_missing_ones_do_not(tmp_path):
    weights = tmp_path / "trunk.pth"
    weights.write_bytes(b"first")
    options = {"SOLVER.MAX_EPOCH": 2, "MODEL.BACKBONE.PRETRAIN_PATH": str(weights)}
    ablation = read_ablation(write(tmp_path, options=options))
    found = result(ablation, "margin", 0, 60.0, 19.0)
    digest = hashlib.sha256(b"first").hexdigest()[:12]
    assert found["start"] == digest
    assert digest in table(ablation, [found])

    def differences() -> list[str]:
        return difference(found, ablation.wanted(ablation.rows["margin"]))

    assert differences() == []
    weights.write_bytes(b"other")
    os.utime(weights, (1, 1))
    now = hashlib.sha256(b"other").hexdigest()[:12]
    assert differences() == [f"start {digest} (now {now})"]
    weights.unlink()
    assert differences() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        {"DATASETS.NAMES": ["BalancedDataset"]},
        {"DATASETS.NAMES": ["HeldOutPeople"], "DATASETS.HELD_OUT.NAME": "BalancedDataset"},
        {"DATASETS.NAMES": ["ThinnedDataset"], "DATASETS.THINNED.NAME": "BalancedDataset"},
    ],
    ids=["outermost", "held out", "thinned"],
)
def test_other_generated_images_make_results_of_their_rows_stale(tmp_path, monkeypatch, names):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    sampled = {**names, "DATALOADER.SAMPLER_TRAIN": "IdentitySampler"}  # of one modality
    rows = {"plain": {}, "balanced": {"overrides": sampled}}
    ablation = read_ablation(write(tmp_path, rows=rows))
    manifest = ablation.dataset.root() / "balance/manifest.csv"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("slot")
    found = {row: result(ablation, row, 0, 60.0, 19.0) for row in rows}
    assert "images" not in found["plain"]
    manifest.write_text("slots")
    os.utime(manifest, (1, 1))
    lines = {row: difference(found[row], ablation.wanted(ablation.rows[row])) for row in rows}
    assert lines["plain"] == []
    assert len(lines["balanced"]) == 1 and lines["balanced"][0].startswith("images ")
    manifest.unlink()
    assert difference(found["balanced"], ablation.wanted(ablation.rows["balanced"])) == []


@pytest.mark.slow
def test_equal_settings_survive_json_and_another_spelling(tmp_path):
    ablation = read_ablation(write(tmp_path, options={"SOLVER": {"BASE_LR": 1e-4, "STEPS": [5]}}))
    found = json.loads(json.dumps(result(ablation, "margin", 0, 60.0, 19.0)))
    file = write(tmp_path, options={"SOLVER.BASE_LR": "1e-4", "SOLVER.STEPS": "[5]"})
    now = read_ablation(file)
    assert difference(found, now.wanted(now.rows["margin"])) == []


def test_a_result_takes_the_place_of_its_row_and_seed_and_of_no_other(tmp_path):
    ablation = read_ablation(write(tmp_path))
    given = [("margin", 1, 1.0), ("margin", 0, 2.0), ("baseline", 1, 3.0), ("margin", 1, 4)]
    for row, seed, value in given:
        record_result(ablation, result(ablation, row, seed, value, 0.0))
    found = read_results(ablation.results)
    assert [(r["row"], r["seed"], r["metrics"]["I2V"]["Rank-1"]) for r in found] == [
        ("baseline", 1, 3.0),
        ("margin", 0, 2.0),
        ("margin", 1, 4),
    ]
    assert "`margin`" in ablation.results.with_suffix(".md").read_text()


@pytest.mark.parametrize("text", ["[{", "{}", '[{"row": "margin"}]'])
def test_a_damaged_record_is_an_error_and_stays_as_it_is(tmp_path, text):
    ablation = read_ablation(write(tmp_path))
    ablation.results.parent.mkdir()
    ablation.results.write_text(text)
    with pytest.raises(InputError, match=r"ablation\.json"):
        record_result(ablation, result(ablation, "margin", 0, 1.0, 1.0))
    assert ablation.results.read_text() == text


def recorded(folder, change):
    """Two results of a record, changed as a hand or a merge may change them."""
    ablation = read_ablation(write(folder))
    given = [result(ablation, "margin", seed, 10.0 + seed, 5.0) for seed in (0, 1)]
    change(given)
    ablation.results.parent.mkdir()
    ablation.results.write_text(json.dumps(given))
    return ablation


def put(key, value):
    def change(given):
        given[1][key] = value

    return change


def put_metric(value):
    def change(given):
        given[1]["metrics"]["V2I"]["mAP"] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: given.append(dict(given[0])), r"3, row 'margin', seed 0: is there already"),
        (put("seed", 0), r"result 2, row 'margin', seed 0: is there already as result 1; expected"),
        *(
            (put_metric(value), rf"seed 1: metrics: V2I: mAP: found {found}; expected a finite num")
            for value, found in {
                float("nan"): "nan",
                float("inf"): "inf",
                "ten": "'ten'",
                None: "null",
                True: "True",
            }.items()
        ),
        (put("row", [1]), r"result 2: row: found \[1\]; expected text"),
        (put("seed", "0"), r"result 2: seed: found '0'; expected a whole number"),
        (put("seed", True), r"result 2: seed: found True; expected a whole number"),
        (put("seed", -1), r"result 2, row 'margin', seed -1: expected a seed of 0 or more"),
        (put("metrics", []), r"result 2: metrics: found \[\]; expected a mapping"),
        (put("metrics", {"I2V": 3}), r"metrics: I2V: found 3; expected a mapping"),
        (put("overrides", "x"), r"result 2: overrides: found 'x'; expected a mapping"),
        (put("tests", [1]), r"seed 1: tests: found \[1\]; expected a mapping"),
        (put("signs", {"total_loss": "x"}), r"signs: total_loss: found 'x'; expected a number"),
        (put("queries", 3), r"seed 1: queries: found 3; expected text"),
        (lambda given: given.append("x"), r"result 3: found 'x'; expected a list of results, each"),
        (lambda given: given[1].pop("seed"), r"result 2: has no seed; expected a list of results"),
    ],
)
def test_a_record_with_a_wrong_or_repeated_result_is_refused(tmp_path, change, message):
    ablation = recorded(tmp_path, change)
    with pytest.raises(InputError, match=rf"ablation\.json: .*{message}") as refused:
        write_table(ablation)
    assert "\n" not in str(refused.value)


def test_a_row_and_seed_of_two_data_sets_are_two_results(tmp_path):
    ablation = recorded(tmp_path, lambda given: given[1].update(seed=0, dataset="other"))
    assert len(read_results(ablation.results)) == 2
    write_table(ablation)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": [0]}, "no key 'seed'; known: seeds,"),
        ({"seeds": [0, 0]}, "seeds: found [0, 0], expected different whole numbers from 0"),
        ({"seeds": [True]}, "seeds: found [True]"),
        (
            {"metrics": ["I2V/Rank1"]},
            "metrics: 'I2V/Rank1'; expected DIRECTION/METRIC, with one of",
        ),
        ({"metrics": []}, "metrics: found []"),
        ({"rows": {}}, "rows: there is none"),
        ({"rows": {"a/b": {}}}, "rows.a/b: expected a name of letters"),
        ({"rows": {"a": None}}, "rows.a: found None"),
        ({"rows": {"a": {"override": {}}}}, "rows.a: no key 'override'; known: overrides,"),
        (
            {"rows": {"a": {"overrides": {"SOLVER.MAX_EPOCHS": 1}}}},
            "rows.a.overrides: no config key 'SOLVER.MAX_EPOCHS'; nearest: SOLVER.MAX_EPOCH,",
        ),
        ({"options": {"SOLVER.MAX_EPOCH": "many"}}, "options: SOLVER.MAX_EPOCH: "),
        ({"options": {"SEED": 1}}, "SEED is set by the tool"),
        (
            {"options": {"SOLVER.STEP": "Simple"}},
            "rows.baseline: SOLVER.STEP: no STEP is named 'Simple'; known: SimpleStep,",
        ),
        (
            {"rows": {"a": {"overrides": {"MODEL.TEMPORAL.NAME": "STIGG"}}}},
            "rows.a: MODEL.TEMPORAL.NAME: no TEMPORAL is named 'STIGG'; known: STIG,",
        ),
        (
            {"rows": {"a": {"overrides": {"MODEL.META_ARCHITECTURE": "SADSTR"}}}},
            "rows.a: MODEL.META_ARCHITECTURE: no META_ARCH is named 'SADSTR'; known: SADSTRM,",
        ),
        (
            {"rows": {"a": {"overrides": {"MODEL.LOSSES.NAME": ["TripleLoss"]}}}},
            "rows.a: MODEL.LOSSES.NAME: no LOSS is named 'TripleLoss'; known: TripletLoss,",
        ),
        (
            {"rows": {"a": {"overrides": {"SOLVER.ACCUMULATION": 0}}}},
            "rows.a: SOLVER.ACCUMULATION: 0; expected 1 or more",
        ),
        ({"config": "none.yml"}, "none.yml: no such file"),
        ({"dataset": {"name": "a b"}}, "dataset.name: found 'a b'"),
        (
            {"dataset": {"name": "a", "render": {"preset": "benhc"}}},
            "no preset 'benhc'; known: ben",
        ),
        (
            {"dataset": {"name": "a", "render": {"preset": ["a"]}}},
            "dataset.render.preset: no preset '['a']'; known: ",
        ),
        ({"dataset": {"name": "a", "render": {"hight": 1}}}, "no key 'hight'; known: height,"),
        ({"dataset": {"name": "a", "render": {"height": 1}}}, "height is 1, expected"),
    ],
)
def test_a_bad_file_names_the_key_and_the_nearest_choice(tmp_path, changes, message):
    with pytest.raises(InputError) as error:
        read_ablation(write(tmp_path, **changes))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_a_missing_key_and_an_unknown_row_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_ablation(tmp_path / "none.yml")
    file = tmp_path / "ablation.yml"
    file.write_text("config: a.yml\n")
    with pytest.raises(InputError, match="key 'dataset' is missing"):
        read_ablation(file)
    with pytest.raises(InputError, match="no row 'baslin'; known: baseline, margin"):
        read_ablation(write(tmp_path)).choose(["baslin"])


def test_other_render_settings_have_another_folder(tmp_path):
    first = read_ablation(write(tmp_path)).dataset
    render = {**TREE["dataset"]["render"], "seed": 1}
    other = read_ablation(write(tmp_path, dataset={"name": "tiny", "render": render})).dataset
    assert first.root() != other.root()
    assert first.root().name.startswith("tiny-")


def run(folder: Path, **changes):
    ablation = read_ablation(write(folder, **changes))
    return plan_runs(ablation, ablation.choose(["margin"]), [3], folder / "logs")[0]


def test_a_run_has_its_own_folder_seed_and_one_evaluation_after_the_last_epoch(tmp_path):
    one = run(tmp_path)
    assert one.folder == tmp_path / "logs" / tmp_path.name / "ablation" / "margin" / "seed3"
    words = one.command(Path("train_net.py"))
    pairs = dict(zip(words[5::2], words[6::2], strict=True))
    assert pairs == {
        "SOLVER.MAX_EPOCH": "2",
        "MODEL.SELF_ATTACK.MARGIN": "0.5",
        "SEED": "3",
        "TEST.EVAL_PERIOD": "2",
        "TEST.EXPECTED_RESULTS": "[]",
        "OUTPUT_DIR": str(one.folder),
    }


def test_the_state_of_a_folder_says_what_a_start_would_do(tmp_path):
    one = run(tmp_path)
    assert one.state() == "new"
    one.folder.mkdir(parents=True)
    (one.folder / "model_0001.pth").touch()
    with pytest.raises(RunError, match="left alone"):
        one.state()
    about = one.ablation.wanted(one.row) | {"commit": "abc", "torch": "2", "threads": 1}
    (one.folder / MARKER).write_text(json.dumps(about | {"seconds": 1.0}))
    assert one.state() == "resumed"
    saved = {"epochs": 2, "results": {"HITSZVCM": {"I2V": {"Rank-1": 1.0}, "V2I": {"mAP": 2.0}}}}
    (one.folder / "results.json").write_text(json.dumps(saved))
    assert one.state() == "finished"
    assert one.result()["metrics"] == {"I2V": {"Rank-1": 1.0}, "V2I": {"mAP": 2.0}}
    assert run(tmp_path, options={"SOLVER.MAX_EPOCH": 3}).state() == (
        "replaced: SOLVER.MAX_EPOCH 2 (now 3)"
    )
    (one.folder / "results.json").write_text(json.dumps(saved | {"epochs": 1}))
    with pytest.raises(RunError, match="of epoch 1, not the last"):
        one.result()
    saved["results"]["HITSZVCM"].pop("V2I")
    (one.folder / "results.json").write_text(json.dumps(saved))
    with pytest.raises(RunError, match=r"has no V2I/mAP, which .*; its directions: I2V$"):
        one.result()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (MARKER, [], r"found \[\]; expected a mapping, what a run was started with"),
        (MARKER, "x", r"found 'x'; expected a mapping"),
        (MARKER, None, r"found null; expected a mapping"),
        (MARKER, {"commit": 3}, r"commit: found 3; expected text"),
        ("results.json", [], r"found \[\]; expected a mapping"),
        ("results.json", None, r"found null; expected a mapping"),
        ("results.json", {"epochs": 1}, r"has no 'results'; expected the results of a run"),
        ("results.json", {"results": {}}, r"has no 'epochs'"),
        ("results.json", {"epochs": "2", "results": {}}, r"epochs: found '2'; expected a whole"),
        ("results.json", {"epochs": 2, "results": []}, r"results: found \[\]; expected a mapping"),
        (
            "results.json",
            {"epochs": 2, "results": {"A": [1]}},
            r"results of A: found \[1\]; expected a mapping",
        ),
        (
            "results.json",
            {"epochs": 2, "results": {"A": {"I2V": {"mAP": "ten"}}}},
            r"A: I2V: mAP: found 'ten'; expected a finite number",
        ),
        (
            "results.json",
            {"epochs": 2, "results": {"A": {"I2V": {"mAP": float("nan")}}}},
            r"A: I2V: mAP: found nan; expected a finite number",
        ),
        (
            "results.json",
            {"epochs": 2, "results": {"A": {"I2V": {"mAP": 10**400}}}},
            r"A: I2V: mAP: found 1000.*; expected a finite number",
        ),
    ],
)
def test_a_damaged_file_of_a_run_is_named_before_anything_runs(tmp_path, name, content, message):
    one = run(tmp_path)
    one.folder.mkdir(parents=True)
    about = one.ablation.wanted(one.row) | {"commit": "abc", "torch": "2", "threads": 1}
    (one.folder / MARKER).write_text(json.dumps(about | {"seconds": 1.0}))
    (one.folder / name).write_text(json.dumps(content))
    for ask in (one.state, lambda: one.commands(Path("train_net.py"))):  # of --dry-run
        with pytest.raises(InputError, match=rf"{name}: {message}"):
            ask()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", r":2: no line of metrics; expected a mapping"),
        ('{"total_loss": "x"}', r":2: total_loss: found 'x'; expected a number"),
        ("{", r":2: no line of metrics: Expecting"),
    ],
)
def test_a_damaged_line_of_metrics_is_named(tmp_path, line, message):
    (tmp_path / "metrics.json").write_text(f'{{"total_loss": 1.0}}\n{line}\n')
    with pytest.raises(InputError, match=rf"metrics\.json{message}"):
        gather_signs(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "names"),
    [({}, ["Q2G", "Q2G+rerank"]), ({"TEST.ATTACKS": ["FNA"]}, ["clean", "rerank"])],
)
def test_blocks_bear_the_names_of_attacks_only_under_attack(tmp_path, options, names):
    one = run(tmp_path, metrics=[f"{names[1]}/mAP"], options={"SOLVER.MAX_EPOCH": 2, **options})
    one.folder.mkdir(parents=True)
    about = dict.fromkeys(("commit", "seconds", "torch", "threads"))
    (one.folder / MARKER).write_text(json.dumps(one.ablation.wanted(one.row) | about))
    blocks = {"Q2G": {"mAP": 1.0}, "Q2G+rerank": {"mAP": 2.0}, "metric": 1.0}
    saved = {"epochs": 2, "results": {"Market1501": blocks}}
    (one.folder / "results.json").write_text(json.dumps(saved))
    assert list(one.result()["metrics"]) == names


def test_a_run_that_shuns_the_gpu_is_of_a_cpu():
    assert device_name({"MODEL.DEVICE": "cpu"}) == "CPU"
    found = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    assert device_name({}) == device_name({"MODEL.DEVICE": "cuda:0"}) == found


@pytest.mark.slow
def test_a_folder_in_use_is_refused_and_a_replaced_run_keeps_nothing(tmp_path):
    sleeper = tmp_path / "sleep.py"
    sleeper.write_text("import time\ntime.sleep(60)\n")
    job = start(run(tmp_path), sleeper, threads=1)
    try:
        with pytest.raises(RunError, match="another process is at it"):
            start(job.run, sleeper, threads=1)
    finally:
        end([job.process])
    assert job.process.returncode == -signal.SIGTERM
    (job.run.folder / "model_0001.pth").touch()
    again = start(run(tmp_path, options={"SOLVER.MAX_EPOCH": 3}), sleeper, threads=1)
    end([again.process])
    assert {path.name for path in again.run.folder.iterdir()} == {LOG, MARKER}


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 3])
def test_failing_runs_stop_no_other_and_are_told_with_their_errors_and_logs(tmp_path, jobs, capsys):
    tool = tmp_path / "train.py"
    tool.write_text(STAND_IN)
    ablation = read_ablation(write(tmp_path, seeds=[0, 1, 2, 3]))
    rows = ablation.choose(["margin"])
    runs = plan_runs(ablation, rows, None, tmp_path / "logs")
    results = []
    failures, stopped_by = execute(runs, tool, jobs, 1, lambda one, _: results.append(one))
    assert stopped_by is None
    assert sorted(result["metrics"]["I2V"]["Rank-1"] for result in results) == [0.0, 3.0]
    log = runs[1].folder / LOG
    assert failures["margin/seed1"] == f"exit status 1, see {log}: boom"
    assert f"failed: margin/seed1: {failures['margin/seed1']}\n" in capsys.readouterr().err
    assert failures["margin/seed2"] == f"wrote no results.json, see {runs[2].folder / LOG}"
    assert len(failures) == 2


@pytest.mark.slow
def test_an_interrupted_run_goes_on_in_its_folder_and_names_both_commits_and_machines(tmp_path):
    sleeper, tool = tmp_path / "sleep.py", tmp_path / "train.py"
    sleeper.write_text("import time\ntime.sleep(60)\n")
    check = "assert pathlib.Path(words['OUTPUT_DIR'], 'model_0000.pth').exists()"
    tool.write_text(STAND_IN + check)
    one = run(tmp_path)
    end([start(one, sleeper, threads=1).process])
    (one.folder / "model_0000.pth").touch()
    marker = json.loads((one.folder / MARKER).read_text())
    (one.folder / MARKER).write_text(json.dumps(marker | {"commit": "before", "device": "another"}))
    assert one.state() == "resumed"

    results = []
    assert execute([one], tool, 1, 1, lambda each, _: results.append(each)) == ({}, None)
    assert results[0]["commit"] == f"before, {marker['commit']}"
    assert results[0]["device"] == f"another, {marker['device']}"
    assert results[0]["seconds"] is None
    assert (one.folder / LOG).read_text().count("$ ") == 2
    assert not (one.folder / "model_0000.pth").exists()


@pytest.mark.slow
def test_end_leaves_no_grandchild(tmp_path):
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    heard, told = os.pipe()
    with open(heard) as output, open(told, "w") as log:
        process = LocalProcess([sys.executable, str(parent)], log, {})
        log.close()
        output.readline()
        end([process])
        # The pipe's end: all that could write into it are gone.
        assert output.read() == ""
    assert process.returncode < 0


def test_a_signal_is_noted_and_the_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.event.wait(5)
        assert stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    "value",
    [
        *("STIG", "50", "1e5", ".5", "0x1f", "logs/run", "None", "a b", "=a", "", "'a'"),
        *([1, 2], ["a"], 0.1, True),
    ],
)
def test_a_value_is_spelt_so_that_the_config_reads_it_back(value):
    from fastreid.config import CfgNode

    cfg = CfgNode({"KEY": value})
    cfg.merge_from_list(["KEY", spelt(value)])
    assert value == cfg.KEY


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="no checkout")
def test_the_commit_is_the_checkout_s():
    head = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    assert current_commit().removesuffix("+dirty") == head.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("sadstrm/grid.yml", "baseline stig stig_shuffled full"),
        ("sadstrm/screen.yml", "stig rate_0.00035 rate_0.001 style_same_0.5"),
        ("sadstrm/gait.yml", "baseline stig stig_shuffled"),
        ("sadstrm/relation.yml", "baseline stig weight_0.3 weight_0.1"),
        (
            "dddefense/ablation.yml",
            "vanilla vanilla_robust_start adv_train metric_at metric_at_balance",
        ),
        (
            "dddefense/photographs.yml",
            "vanilla vanilla_robust_start adv_train metric_at metric_at_disc",
        ),
        ("dddefense/labels.yml", "metric_at metric_at_fnes fnes_half_as_soft fnes_smoothed"),
    ],
)
def test_the_projects_files_name_rows_that_differ_from_each_other(file, first):
    ablation = read_ablation(ROOT / "projects" / file)
    names = first.split()
    assert list(ablation.rows)[: len(names)] == names
    settings = [json.dumps(row.settings, sort_keys=True) for row in ablation.rows.values()]
    assert len(set(settings)) == len(settings)
