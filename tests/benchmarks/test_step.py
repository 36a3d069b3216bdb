"""The bare loop of a training step does what the step does; bfloat16 does nearly the same."""

import copy
from functools import partial

import pytest
import torch

from plugins.benchmarks import Settings, benchmark
from plugins.benchmarks.step import (
    BFLOAT16,
    CHANNELS_LAST,
    CHECKPOINTING,
    ROUNDED,
    BareLoop,
    build_step,
    check_losses,
    drawn_batch,
    loop_work,
    options_work,
    read,
    run,
    size,
)

pytestmark = pytest.mark.slow

TINY = Settings(tiny=True, threads=(1,))
SMALL = size(TINY)


def test_a_row_compares_a_step_with_its_passes():
    (row,) = benchmark(["step"], TINY)["rows"]
    assert row["name"] == "SADSTRM step, 24 frames of 32x16"
    assert row["target"] == 0.97 and row["ours"] > 0


def test_step_and_bare_loop_have_the_same_losses_and_train_the_same_weights():
    config, clips, more = SMALL
    cfg = read(config, clips, more)
    batch = drawn_batch(cfg, clips, 0)
    ours, theirs = build_step(cfg, batch, 0), build_step(cfg, batch, 0)
    before = copy.deepcopy(ours.model.state_dict())
    loop = BareLoop(theirs, batch)
    for _ in range(2):
        assert run(ours) == pytest.approx(loop.run(), rel=1e-5)
    after = [dict(each.model.named_parameters()) for each in (ours, theirs)]
    moved = [{name for name in each if not torch.equal(each[name], before[name])} for each in after]
    assert moved[0] == moved[1]
    assert {"backbone.stems.0.conv1.weight", "attack.modality_classifier.weight"} <= moved[0]
    for name, weight in after[0].items():
        torch.testing.assert_close(weight, after[1][name], rtol=1e-3, atol=1e-4)


def test_a_loop_without_the_attack_is_another_loop(monkeypatch):
    work = loop_work(*SMALL)
    work.check(work.ours(), work.theirs())
    work = loop_work(*SMALL)
    monkeypatch.setattr(BareLoop, "_delta", lambda loop, maps, *_: torch.zeros_like(maps))
    with pytest.raises(AssertionError, match="losses of"):
        work.check(work.ours(), work.theirs())


@pytest.mark.skipif(
    not (torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    reason="this processor has no bfloat16, so the step is in float32",
)
def test_the_rows_of_precision_change_precision_alone():
    work = options_work(*SMALL, (*BFLOAT16, *CHANNELS_LAST))
    ours, theirs = work.ours(), work.theirs()
    work.check(ours, theirs)
    assert ours != theirs  # in float32 both would be equal
    with pytest.raises(AssertionError, match="losses of 2 and 1"):
        partial(check_losses, ROUNDED)(2.0, 1.0)


def test_activation_checkpointing_has_the_same_losses():
    work = options_work(*SMALL, CHECKPOINTING)
    assert work.ours() == work.theirs()
