"""A short form of the soaks that no other test tries; ``make soak`` does all, and more of each."""

import random

import pytest

from tests.soak.accidents import full_disk, lost_rank
from tests.soak.inputs import hostile_inputs
from tests.soak.kills import kill_and_resume, subjects
from tests.soak.mutations import mutate_checkpoints

pytestmark = pytest.mark.slow


# Others kill the rest: tests/engine/test_resume.py SADSTRM, tests/defense/test_dddefense_run.py
# DDDefense, tests/tools/test_balance_data.py a generator.
def test_a_killed_ablation_ends_as_one_that_was_not_killed(datasets, market, tmp_path):
    (subject,) = [each for each in subjects(datasets, market, tmp_path) if each.name == "ablation"]
    found = kill_and_resume(subject, tmp_path / "runs", 1, random.Random("ablation"))
    assert found == {"kills": 1, "runs": 1, "different": []}


def test_mutations_of_a_checkpoint_are_refused_or_read_as_written(tmp_path):
    found = mutate_checkpoints(tmp_path, 60, random.Random(0))
    assert found["silently different"] == found["tracebacks"] == found["payloads run"] == 0
    assert found["refused"] >= 40


def test_hostile_inputs_are_read_or_refused_in_one_line(tmp_path):
    found = hostile_inputs(tmp_path, 25, random.Random(0))
    assert found["tracebacks"] == []
    assert found["payloads run"] == 0
    assert found["refused"] > 0 < found["read"]


def test_a_full_disk_is_the_last_line_and_the_last_checkpoint_stays(datasets, tmp_path):
    found = full_disk(datasets, tmp_path, random.Random(0))
    if found is None:
        pytest.skip("a small disk cannot be mounted here")
    assert found == {"status": 1, "tells": True, "whole": 1, "damaged": 0}


def test_a_lost_rank_is_named_with_its_signal(datasets, tmp_path):
    found = lost_rank(datasets, tmp_path)
    assert found["status"] != 0
    assert found["tells"]
