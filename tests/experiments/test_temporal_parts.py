"""Temporal parts on frozen maps: the maps are the trunk's, the search is the rotated one."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from plugins.errors import InputError
from plugins.experiments.frozen_maps import frozen_maps, list_sequences
from plugins.experiments.temporal_grid import read_grid
from plugins.experiments.temporal_parts import (
    PartOnMaps,
    batches,
    cross_tested,
    halves,
    rate,
    search_people,
    train_part,
    with_classes,
)
from plugins.modeling.meta_arch import VVIBaseline
from plugins.synthetic import SyntheticSettings
from plugins.synthetic.frame import render_walk
from plugins.synthetic.plan import VISIBLE, Walk
from tests.helpers.small_models import small_cfg
from tests.helpers.small_runs import ROOT

SMALL = [
    "MODEL.LOSSES.NAME", "('CrossEntropyLoss', 'TripletLoss')",
    "MODEL.TEMPORAL.STIG.SOURCE", "layer3",
    "INPUT.SIZE_TEST", "(64, 32)",
    "INPUT.CLIP.LENGTH", 4,
    "INPUT.CLIP.SAMPLING", "window",
    "INPUT.FLIP.ENABLED", True,
    "TEST.CLIPS", 2,
    "DATALOADER.NUM_INSTANCE", 2,
    "SOLVER.IMS_PER_BATCH", 4,
    "SOLVER.MAX_EPOCH", 2,
    "SOLVER.WARMUP_EPOCHS", 0,
    "SOLVER.STEPS", [100],
]  # fmt: skip
GRID = {
    "config": "configs/VVI/synthetic/baseline.yml",
    "dataset": "walks",
    "seeds": [0, 1],
    "options": {
        "MODEL.DEVICE": "cpu",
        "MODEL.LOSSES.NAME": ["CrossEntropyLoss", "TripletLoss"],
        "INPUT.CLIP.LENGTH": 4,
        "INPUT.CLIP.SAMPLING": "window",
        "DATALOADER.NUM_INSTANCE": 2,
        "SOLVER.IMS_PER_BATCH": 4,
        "SOLVER.MAX_EPOCH": 2,
    },
    "rows": {
        "mean": {},
        "stig": {"overrides": {"MODEL.TEMPORAL.NAME": "STIG"}},
        "stig_shuffled": {
            "against": "stig",
            "overrides": {"MODEL.TEMPORAL.NAME": "STIG", "INPUT.CLIP.ORDER": "shuffled"},
        },
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four rendered people under three cameras, 5 to 8 frames."""
    root = tmp_path_factory.mktemp("walks")
    settings = SyntheticSettings(likeness=0.0)
    for person in range(1, 5):
        for camera in (2, 3, 4):
            walk = Walk(person, VISIBLE, camera, camera, 4 + person, False, 0.3)
            place = root / f"{person:02}" / f"c{camera}"
            place.mkdir(parents=True)
            for number, frame in enumerate(render_walk(settings, walk)):
                Image.fromarray(frame).save(place / f"{number:03}.png")
    return root


@pytest.fixture(scope="module")
def cfg():
    return small_cfg(*SMALL)


@pytest.fixture(scope="module")
def frozen(cfg, folder):
    torch.manual_seed(0)
    return frozen_maps(cfg, list_sequences(folder), ("layer3", "layer4"))


@pytest.mark.slow
def test_sequences_are_listed_by_person_camera_and_frame(folder):
    found = list_sequences(folder)
    assert [(each.person, each.camera, len(each.frames)) for each in found[:4]] == [
        ("01", "c2", 5), ("01", "c3", 5), ("01", "c4", 5), ("02", "c2", 6),
    ]  # fmt: skip
    assert [frame.name for frame in found[0].frames] == [f"{i:03}.png" for i in range(5)]


def test_a_folder_of_something_else_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"0 people; expected 4 or more"):
        list_sequences(tmp_path)
    for person in range(4):
        (tmp_path / str(person)).symlink_to(folder / "01")
    (tmp_path / "9" / "c1").mkdir(parents=True)
    (tmp_path / "9" / "c1" / "0.png").symlink_to(folder / "01" / "c2" / "000.png")
    with pytest.raises(InputError, match=r"9: 1 camera; expected 2 or more"):
        list_sequences(tmp_path)


@pytest.mark.slow
def test_maps_are_those_of_the_trunk_for_each_frame_and_its_mirror_image(cfg, folder, frozen):
    """The slow road: one frame alone through the whole network."""
    torch.manual_seed(0)
    model = VVIBaseline(cfg).eval()
    sequence = 4
    file = frozen.sequences[sequence].frames[3]
    image = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None, None].float()
    for mirrored, seen in ((False, image), (True, image.flip(-1))):
        with torch.no_grad():
            maps = model.backbone.stage_maps(model.stem_maps(seen, torch.tensor([0])))
        clip = frozen.clip(sequence, [3], mirrored)
        for stage in ("layer3", "layer4"):
            torch.testing.assert_close(clip[stage], maps[stage], rtol=2e-3, atol=2e-3)
    assert not torch.equal(
        frozen.clip(4, [3], False)["layer3"], frozen.clip(4, [2], False)["layer3"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["TemporalMean", "TemporalLSTM", "STIG"])
def test_a_part_on_maps_embeds_as_the_whole_network_does(folder, name):
    cfg = small_cfg(*SMALL, "MODEL.TEMPORAL.NAME", name)
    torch.manual_seed(1)
    model = VVIBaseline(cfg).eval()
    torch.manual_seed(1)
    part = PartOnMaps(cfg).eval()
    images = torch.rand(2, 4, 3, 64, 32, generator=torch.Generator().manual_seed(2)) * 255
    modalities = torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        stages = model.backbone.stage_maps(model.stem_maps(images, modalities))
        maps = {stage: values.unflatten(0, (2, 4)) for stage, values in stages.items()}
        whole = model({"images": images, "modalities": modalities})
        torch.testing.assert_close(part.embed(maps), torch.nn.functional.normalize(whole))


def test_halves_hold_everybody_once():
    first, other = halves([f"{i:02}" for i in range(7)])
    assert sorted([*first, *other]) == [f"{i:02}" for i in range(7)]
    assert (len(first), len(other)) == (4, 3)


def test_an_epoch_has_everybody_at_most_once(cfg):
    found = [*batches(cfg, 5, torch.Generator().manual_seed(0))]
    people = [person for batch in found for person in batch]
    assert [len(batch) for batch in found] == [2, 2] and len(set(people)) == 4


def test_the_rate_warms_up_and_falls():
    cfg = small_cfg("SOLVER.WARMUP_EPOCHS", 4, "SOLVER.STEPS", [6, 8])
    found = [rate(cfg, epoch) for epoch in (0, 3, 5, 6, 9)]
    assert found == pytest.approx([0.25, 1, 1, 0.1, 0.01])


@pytest.mark.slow
def test_every_person_is_tested_once_with_each_camera_as_query(cfg, frozen):
    found = cross_tested(cfg, frozen, "walks", seed=0)
    assert sorted(found.path) == sorted(f"{s.person}/{s.camera}" for s in frozen.sequences)
    assert (found.positives == 2).all(), "the person's two other cameras"
    assert sorted(set(found.trial)) == list(range(6)), "two halves of three cameras"
    for trial in range(6):
        assert len(set(found.camera[found.trial == trial])) == 1
    again = cross_tested(cfg, frozen, "walks", seed=0)
    other = cross_tested(cfg, frozen, "walks", seed=1)
    assert np.array_equal(found.average_precision, again.average_precision)
    assert not np.array_equal(found.average_precision, other.average_precision)


@pytest.mark.slow
def test_training_sees_nobody_of_the_test_and_learns(cfg, frozen):
    """The sequences of the others may be anything."""
    people = ["01", "03"]
    cfg = with_classes(cfg, 2)
    cfg.SOLVER.MAX_EPOCH = 30
    cfg.SOLVER.BASE_LR = 1e-3
    part = train_part(cfg, frozen, people, seed=0)
    noise = replace(frozen, maps={stage: maps.clone() for stage, maps in frozen.maps.items()})
    for sequence, start in zip(frozen.sequences, frozen.starts, strict=True):
        if sequence.person not in people:
            for maps in noise.maps.values():
                maps[:, start : start + len(sequence.frames)] = 7
    other = train_part(cfg, noise, people, seed=0)
    for name, value in part.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    found = search_people(part, cfg, frozen, people, "walks")
    assert found.average_precision.mean() == 1.0, "who was trained on is found"


def test_mistakes_in_a_file_are_named(tmp_path):
    def read(**changes):
        file = tmp_path / "grid.yml"
        file.write_text(yaml.safe_dump({**GRID, **changes}, sort_keys=False))
        return read_grid(file)

    with pytest.raises(InputError, match=r"rows: found 1, expected two"):
        read(rows={"mean": {}})
    with pytest.raises(InputError, match=r"rows.stig.against: no row 'men'; known: mean"):
        read(rows={"mean": {}, "stig": {"against": "men"}})
    with pytest.raises(InputError, match=r"rows.stig.overrides: .*MODEL.TEMPORAL.NAM"):
        read(rows={"mean": {}, "stig": {"overrides": {"MODEL.TEMPORAL.NAM": "STIG"}}})
    assert read().against == {"stig": "mean", "stig_shuffled": "stig"}


@pytest.mark.slow
def test_the_command_writes_and_prints_what_it_found(folder, tmp_path):
    file = tmp_path / "grid.yml"
    file.write_text(yaml.safe_dump(GRID, sort_keys=False))
    done = subprocess.run(
        [sys.executable, "tools/compare_temporal.py", str(file), "--folder", str(folder)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results" / "grid.json").read_text())
    assert (results["people"], results["sequences"], results["frames"]) == (4, 12, 78)
    for name in GRID["rows"]:
        assert len(results["metrics"][name]["mAP"]) == 2
        mean = np.mean(results["metrics"][name]["mAP"])
        assert f"| `{name}`" in done.stdout and f"{mean:.2f}" in done.stdout
    for each in results["differences"]:
        ours, theirs = (
            results["metrics"][each[side]][each["metric"]] for side in ("row", "against")
        )
        assert each["difference"] == pytest.approx(np.mean(ours) - np.mean(theirs), abs=2e-3)
        assert (each["people"], each["seeds"], each["crossed"]) == (4, 2, True)


@pytest.mark.slow
def test_the_file_of_ward_is_right():
    grid = read_grid(ROOT / "projects" / "sadstrm" / "ward.yml")
    assert next(iter(grid.cfgs)) == "mean" and grid.against["stig_shuffled"] == "stig"
