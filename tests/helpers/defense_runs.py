"""Small real runs of defenses: two epochs on a rendered Market-1501."""

from pathlib import Path

from tests.helpers.checkpoints import assert_same, checkpoint
from tests.helpers.small_runs import train, train_and_kill

SMALL = {
    "DEFENSE__STEPS": 1,
    "DEFENSE__WARMUP_EPOCHS": 1,
    "DATALOADER__NUM_INSTANCE": 2,
    "SOLVER__IMS_PER_BATCH": 8,
    "SOLVER__MAX_EPOCH": 2,
    "TEST__EVAL_PERIOD": 2,
}


def assert_resumes(
    datasets: Path, folder: Path, config: Path, *more: str, **changes
) -> tuple[dict, str]:
    """A run killed after its first epoch and resumed ends bit for bit as one that was not.

    Args:
        datasets: the FASTREID_DATASETS folder.
        folder: for both runs.
        config: of the run.
        *more: entries of the checkpoint to compare, besides those of every run.
        **changes: config keys, as for ``tests.helpers.small_runs.options``.

    Returns:
        The last checkpoint and the metrics file of the run that was not killed.
    """
    whole, killed = folder / "whole", folder / "killed"
    changes = SMALL | {"config": config} | changes
    done = train(datasets=datasets, output=whole, **changes)
    assert done.returncode == 0, done.stderr
    train_and_kill(datasets=datasets, output=killed, **changes)
    resumed = train("--resume", datasets=datasets, output=killed, **changes)
    assert resumed.returncode == 0, resumed.stderr
    assert "epochs are done" in resumed.stdout
    expected, found = checkpoint(whole), checkpoint(killed)
    for key in ("model", "optimizer", "lr_sched", "sampler", "random_state", *more):
        assert_same(expected[key], found[key])
    return expected, (whole / "metrics.json").read_text()
