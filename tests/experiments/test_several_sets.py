"""An ablation with further tests, seeds of its own for a row, and values that follow the seed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plugins.data.datasets import HITSZVCM
from plugins.data.datasets.own_names import item_names
from plugins.errors import InputError
from plugins.evaluation import Evaluation, read_queries, write_queries
from plugins.experiments import (
    execute,
    plan_runs,
    read_ablation,
    read_results,
    record_result,
    split_stale,
)
from plugins.experiments.checks import at_seed
from plugins.experiments.gather import attack_names
from plugins.experiments.processes import start
from plugins.experiments.results import recorded_queries
from plugins.synthetic import HITSZ_VCM, SyntheticSettings, render_layout
from tests.helpers.ablation_files import SEVERAL, SITE, TESTS, write
from tests.helpers.query_rows import rows_of
from tests.helpers.small_runs import ROOT


@pytest.mark.slow
def test_each_row_has_its_seeds_and_each_seed_its_values(tmp_path):
    ablation = read_ablation(write(tmp_path, **SEVERAL))
    runs = plan_runs(ablation, ablation.choose(None), None, tmp_path / "logs")
    assert [str(run) for run in runs] == [
        *("baseline/seed0", "margin/seed0", "baseline/seed1", "margin/seed1", "baseline/seed2"),
    ]
    for run in runs:
        words = run.command(Path("train_net.py"))
        pairs = dict(zip(words[5::2], words[6::2], strict=True))
        assert pairs["SEED"] == str(run.seed)
        trunk = f"logs/trunk/seed{run.seed}/model_final.pth"
        assert pairs["MODEL.BACKBONE.PRETRAIN_PATH"] == trunk
        assert pairs["DATASETS.HELD_OUT.SEED"] == str(run.seed + 100)
        assert run.ablation.dataset.render.seed == run.seed
        assert run.ablation.tests["same-site"].parts[0].render.seed == run.seed + 7
        assert [part.render.seed for part in run.ablation.tests["other-sites"].parts] == [11, 12]
    assert len({run.ablation.dataset.root() for run in runs}) == 3
    # A seed that the file does not name has its values too.
    (other,) = plan_runs(ablation, ablation.choose(["margin"]), [9], tmp_path / "logs")
    assert other.ablation.dataset.render.seed == 9


def test_a_file_without_seed_in_a_value_is_read_once(tmp_path):
    ablation = read_ablation(write(tmp_path))
    assert ablation.at(0) is ablation.at(5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{seed}", 3),
        ("{seed+2}", 5),
        ("{seed + 10}", 13),
        ("a{seed}/b{seed+1}", "a3/b4"),
        ("{seeds}", "{seeds}"),
        ({"a": ["{seed}", 1, None]}, {"a": [3, 1, None]}),
    ],
)
def test_the_seed_stands_in_values(value, expected):
    assert at_seed(value, 3) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tests": {"tiny": {}}}, "tests: tiny, tiny; expected different names"),
        ({"tests": {"a b": {}}}, "tests.a b: expected a name of letters"),
        ({"tests": {"x": {"rendr": {}}}}, "tests.x: no key 'rendr'; known: render, options"),
        (
            {"tests": {"x": {"render": [{"seeed": 1}]}}},
            "tests.x.render.1: no key 'seeed'; known: seed,",
        ),
        (
            {"tests": {"x": {"options": {"OUTPUT_DIR": "a"}}}},
            "tests.x.options: OUTPUT_DIR is set by the tool",
        ),
        (
            {"tests": {"x": {"render": SITE, "options": {"DATASETS.TESTS": ["HITSZVCM"]}}}},
            "tests.x.options: DATASETS.TESTS is set by the tool",
        ),
        (
            {"metrics": ["other-site/I2V/mAP"]},
            "metrics: other-site/I2V/mAP: no data set 'other-site'; known: other-sites,",
        ),
        (
            {"metrics": ["noisy/I2V/mAP"]},
            "metrics: noisy/I2V/mAP; with the options of this test its results are named "
            "noisy/I2V+flip/mAP",
        ),
        (
            {"options": {"SOLVER.MAX_EPOCH": 2, "TEST.CLIPS": 3}},
            "metrics: tiny/I2V/mAP; with the options of this test its results are named "
            "tiny/I2V+clips=3/mAP",
        ),
        ({"primary": {"row": "margin"}}, "primary: found {'row': 'margin'}, expected a list"),
        ({"primary": [{"row": "margn"}]}, "primary.1: key 'dataset' is missing"),
        (
            {"primary": [{"row": "margn", "dataset": "noisy", "metric": "mAP"}]},
            "primary.1.row: no row 'margn'; known: margin,",
        ),
        (
            {"primary": [{"row": "margin", "dataset": "nosy", "metric": "mAP"}]},
            "primary.1.dataset: no dataset 'nosy'; known: noisy,",
        ),
        (
            {"primary": [{"row": "margin", "dataset": "noisy", "metric": "I2V/mAp"}]},
            "primary.1.metric: no metric 'mAp'; known: mAP,",
        ),
        ({"rows": {"a": {"seeds": [0, 0]}}}, "rows.a.seeds: found [0, 0], expected different"),
    ],
)
def test_a_mistake_names_the_key_and_the_nearest_choice(tmp_path, changes, message):
    with pytest.raises(InputError) as error:
        read_ablation(write(tmp_path, **{**SEVERAL, **changes}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_first_row_and_the_only_data_set_need_not_be_named(tmp_path):
    ablation = read_ablation(write(tmp_path, primary=[{"row": "margin", "metric": "V2I/mAP"}]))
    (contrast,) = ablation.primary
    assert (contrast.against, contrast.dataset) == ("baseline", "tiny")


VARIANTS = 7
# Stands in for tools/train_net.py: copies results that were made before, by the run's folder.
TOOL = """
import pathlib, shutil, sys
tested = "--eval-only" in sys.argv
words = dict(zip(sys.argv[4::2], sys.argv[5::2]))
folder = pathlib.Path(words["OUTPUT_DIR"])
if tested:
    assert pathlib.Path(words["MODEL.WEIGHTS"]).is_file()
    assert pathlib.Path(sys.argv[2]).is_file()
    if (folder.parent / "fail").exists():
        sys.exit("error: boom")
made = pathlib.Path(__file__).parent / "made" / str(sum(str(folder).encode()) % 7)
names = ("evaluation_queries.npz", "evaluation.json") if tested else ("queries.npz", "results.json")
for name, source in zip(names, ("queries.npz", "results.json")):
    shutil.copy(made / source, folder / name)
if not tested:
    (folder / "config.yaml").touch()
    (folder / "model_final.pth").touch()
"""


@pytest.fixture
def tool(tmp_path) -> Path:
    """The stand-in, with results to copy."""
    for variant in range(VARIANTS):
        folder = tmp_path / "made" / str(variant)
        folder.mkdir(parents=True)
        rows = rows_of(variant)
        write_queries(folder / "queries.npz", Evaluation(rows, {"seed": 0, "epochs": 2}))
        blocks = {row.row: row.block() for row in rows}
        results = {"epochs": 2, "results": {"HITSZVCM": blocks}}
        (folder / "results.json").write_text(json.dumps(results))
    path = tmp_path / "tool.py"
    path.write_text(TOOL)
    return path


def execute_all(ablation, tool, folder, **changes) -> tuple[dict, list]:
    runs = plan_runs(ablation, ablation.choose(None), None, folder / "logs")
    done = []

    def finished(result, queries):
        record_result(ablation, result, queries)
        done.append(result)

    failures, stopped_by = execute(runs, tool, 2, 1, finished)
    assert stopped_by is None
    return failures, done


@pytest.mark.slow
def test_every_run_is_trained_and_then_tested_on_every_set(tmp_path, tool):
    ablation = read_ablation(write(tmp_path, **SEVERAL))
    failures, done = execute_all(ablation, tool, tmp_path)
    assert failures == {} and len(done) == 5
    results = read_results(ablation.results)
    assert split_stale(ablation, results) == (results, {})
    for result in results:
        folder = tmp_path / "logs" / ablation.folder / result["row"] / f"seed{result['seed']}"
        tests = ["noisy", "other-sites/1", "other-sites/2", "same-site"]
        made = [path.parent for path in (folder / "tests").rglob("evaluation.json")]
        assert sorted(str(path.relative_to(folder / "tests")) for path in made) == tests
        tasks = [
            f"{name}/{direction}"
            for name in ("tiny", "same-site", "other-sites", "noisy")
            for direction in ("I2V", "V2I")
        ]
        assert list(result["metrics"]) == tasks
        # Both sites weigh the same, and what each query found tells it too.
        sites = [
            read_queries(folder / f"tests/other-sites/{n}/evaluation_queries.npz") for n in (1, 2)
        ]
        means = [site.rows[0].block()["mAP"] for site in sites]
        assert result["metrics"]["other-sites/I2V"]["mAP"] == pytest.approx(np.mean(means))
        recorded = recorded_queries(ablation, result)
        assert [row.task for row in recorded.rows] == tasks
        for row in recorded.rows:
            assert row.block()["mAP"] == pytest.approx(result["metrics"][row.task]["mAP"], abs=0.02)
        joined = recorded.rows[4]
        assert set(joined.person) == {f"{seed}/{n}" for seed in (11, 12) for n in range(6)}
        assert joined.path[0].startswith("1/I2V/") and set(joined.trial) == {0, 1}
        log = (folder / "train.log").read_text()
        assert log.count("$ ") == 5 and "TEST.FLIP.ENABLED True" in log
        assert result["tests"]["other-sites"]["2.seed"] == 12
    text = ablation.results.with_suffix(".md").read_text()
    assert "other-sites/V2I mAP" in text and "tiny, same-site, other-sites, noisy, last" in text


@pytest.mark.slow
def test_a_test_that_fails_or_changes_is_made_again_and_the_training_is_not(tmp_path, tool):
    ablation = read_ablation(
        write(tmp_path, **{**SEVERAL, "rows": {"margin": {"seeds": [0]}}, "primary": []})
    )
    (run,) = plan_runs(ablation, ablation.choose(None), None, tmp_path / "logs")
    fail = run.folder / "tests" / "fail"
    job = start(run, tool, threads=1)
    job.process.wait()
    job.check()
    assert run.state() == "trained: same-site, other-sites/1, other-sites/2, noisy"
    fail.parent.mkdir()
    fail.touch()
    failures, done = execute_all(ablation, tool, tmp_path)
    assert failures == {"margin/seed0": f"exit status 1, see {run.folder}/train.log: boom"}
    assert done == []
    fail.unlink()
    trained = (run.folder / "results.json").stat().st_mtime_ns
    assert execute_all(ablation, tool, tmp_path)[0] == {}
    (before,) = read_results(ablation.results)

    tests = {**TESTS, "noisy": {"options": {"TEST.FLIP.ENABLED": False}}, "more": {}}
    changed = read_ablation(
        write(
            tmp_path,
            **{**SEVERAL, "rows": {"margin": {"seeds": [0]}}, "primary": [], "tests": tests},
        )
    )
    _, stale = split_stale(changed, [before])
    why = "tests.noisy.TEST.FLIP.ENABLED True (now False), tests.more unset (now given)"
    assert stale == {"margin/seed0": why}
    (run,) = plan_runs(changed, changed.choose(None), None, tmp_path / "logs")
    assert run.state() == "trained: noisy, more"
    assert len(run.commands(Path("train_net.py"))) == 2
    assert execute_all(changed, tool, tmp_path)[0] == {}
    assert (run.folder / "results.json").stat().st_mtime_ns == trained
    (result,) = read_results(changed.results)
    assert "more/I2V" in result["metrics"]


@pytest.mark.slow
def test_a_file_of_queries_that_is_not_the_recorded_one_is_refused(tmp_path, tool):
    ablation = read_ablation(write(tmp_path, rows={"margin": {}}, metrics=["I2V/mAP"], seeds=[0]))
    assert execute_all(ablation, tool, tmp_path)[0] == {}
    (result,) = read_results(ablation.results)
    file = ablation.queries("margin", 0)
    rows = [replace(row, dataset="tiny") for row in rows_of(0)]
    write_queries(file, Evaluation(rows))
    with pytest.raises(InputError, match="expected both files from one recording"):
        recorded_queries(ablation, result)
    file.unlink()
    with pytest.raises(InputError, match="no such file"):
        recorded_queries(ablation, result)


@pytest.mark.slow
def test_a_run_of_several_data_sets_of_its_config_tells_them_apart(tmp_path, tool):
    options = {"SOLVER.MAX_EPOCH": 2, "DATASETS.TESTS": ["HITSZVCM", "BUPTCampus"]}
    ablation = read_ablation(
        write(
            tmp_path,
            rows={"margin": {}},
            seeds=[0],
            options=options,
            metrics=["HITSZVCM/I2V/mAP", "BUPTCampus/V2I/mAP"],
        )
    )
    for folder in (tmp_path / "made").iterdir():
        rows = [row for name in ("HITSZVCM", "BUPTCampus") for row in rows_of(0, name)]
        write_queries(folder / "queries.npz", Evaluation(rows, {"seed": 0, "epochs": 2}))
        blocks = {row.row: row.block() for row in rows}
        results = {"epochs": 2, "results": dict.fromkeys(("HITSZVCM", "BUPTCampus"), blocks)}
        (folder / "results.json").write_text(json.dumps(results))
    assert execute_all(ablation, tool, tmp_path)[0] == {}
    (result,) = read_results(ablation.results)
    assert list(result["metrics"])[::2] == ["HITSZVCM/I2V", "BUPTCampus/I2V"]
    tasks = [row.task for row in recorded_queries(ablation, result).rows]
    assert tasks == list(result["metrics"])


def test_an_old_run_without_results_of_queries_is_recorded_without_them(tmp_path, tool):
    for folder in (tmp_path / "made").iterdir():
        (folder / "queries.npz").write_bytes(b"")
    ablation = read_ablation(write(tmp_path, rows={"margin": {}}, metrics=["I2V/mAP"], seeds=[0]))
    (run,) = plan_runs(ablation, ablation.choose(None), None, tmp_path / "logs")
    start(run, tool, threads=1).process.wait()
    (run.folder / "queries.npz").unlink()
    assert execute_all(ablation, tool, tmp_path)[0] == {}
    (result,) = read_results(ablation.results)
    assert "queries" not in result and recorded_queries(ablation, result) is None


def test_rows_under_attack_are_named_by_attack_where_there_is_one_direction():
    names = ["Q2G+flip", "Q2G+flip+rerank"]
    assert attack_names(names) == {name: name for name in names}
    assert attack_names(["I2V", "I2V+FNA", "V2I"])["I2V+FNA"] == "I2V+FNA"


@pytest.mark.slow
def test_the_same_people_at_another_site_are_the_same_queries(tmp_path):
    """So a test whose site follows the seed is crossed with people: see ``Difference.crossed``."""
    found = []
    for site in (1, 2):
        root = tmp_path / str(site)
        sizes = {key: value for key, value in SITE.items() if key != "preset"}
        settings = SyntheticSettings(**sizes, site_seed=site)
        render_layout(HITSZ_VCM, root / HITSZ_VCM.folder, settings)
        data = HITSZVCM(root=str(root))
        items = [*data.query, *data.gallery]
        found.append((item_names(data, items, str(root)), Path(items[0].img_paths[0]).read_bytes()))
    (names, picture), (others, elsewhere) = found
    for name in ("path", "person", "camera"):
        assert names[name].tolist() == others[name].tolist()
    assert picture != elsewhere


@pytest.mark.slow
def test_the_ablation_of_the_page_is_one(tmp_path):
    page = (ROOT / "docs/experiments.md").read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    file = tmp_path / "ablation.yml"
    file.write_text(block.replace("config: ", f"config: {ROOT}/"))
    ablation = read_ablation(file)
    assert [row.seeds for row in ablation.rows.values()] == [(0, 1, 2, 3, 4)] * 2 + [(0, 1)]
    assert ablation.tested_on() == ["site", "other-sites", "flipped"]
    start = ablation.at(3).rows["stig"].settings["MODEL.BACKBONE.PRETRAIN_PATH"]
    assert start == "logs/trunk/seed3/model_final.pth"
    assert ablation.primary[0].against == "mean"
