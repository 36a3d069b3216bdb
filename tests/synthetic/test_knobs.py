"""Every setting changes what it says, and nothing else."""

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from plugins.errors import InputError
from plugins.synthetic import HITSZ_VCM, SyntheticSettings, render_hitsz_vcm
from plugins.synthetic.frame import render_person, render_walk
from plugins.synthetic.identity import GAIT_RANGES, draw_identity
from plugins.synthetic.likeness import AVERAGE, people_scale, person_of, pull
from plugins.synthetic.plan import INFRARED, VISIBLE, Walk, plan_split
from plugins.synthetic.pose import SIDES, pose
from plugins.synthetic.scene import draw_camera, draw_panorama
from plugins.synthetic.streams import Stream, stream
from plugins.synthetic.take import draw_take

BASE = SyntheticSettings(train_ids=6, test_ids=6, height=48, width=24, cameras=8, max_frames=30)
PIDS = range(501, 507)


def changed(**values):
    return dataclasses.replace(BASE, **values)


def walk(pid=501, modality=VISIBLE, camid=3, frames=12):
    return Walk(pid, modality, camid, number=0, frames=frames, reverse=False, light=0.3)


def flat(record):
    """All numbers and words of a nested record."""
    values = []
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        values += flat(value) if dataclasses.is_dataclass(value) else np.ravel(value).tolist()
    return values


def takes(settings):
    """What happens during the test walks, and the people whose walks they are."""
    walks = plan_split(settings, "test")
    for planned in sorted(walks, key=lambda row: (row.pid, row.modality, row.number)):
        rng = stream(settings.seed, Stream.WALK, planned.pid, planned.modality, planned.number)
        camera = draw_camera(settings.site, planned.camid, settings.difficulty)
        person = person_of(settings, planned.pid)
        yield person, camera, draw_take(rng, person, camera, planned, settings)


def parts(settings):
    """What a rendered set is made of, each part by itself."""
    people = [person_of(settings, pid) for pid in PIDS]
    cameras = [draw_camera(settings.site, camid, settings.difficulty) for camid in range(1, 9)]
    panorama = draw_panorama(settings.site, 3, VISIBLE, 0.1, 40)
    happenings = [take for _, _, take in takes(settings)]
    return {
        "body": [flat(person.body) for person in people],
        "gait": [flat(person.gait) for person in people],
        "clothes": [
            flat(dataclasses.replace(p, body=AVERAGE.body, gait=AVERAGE.gait)) for p in people
        ],
        "cameras": [flat(camera) for camera in cameras],
        "background": panorama.tolist(),
        "training walks": plan_split(settings, "train"),
        "test walks": plan_split(settings, "test"),
        "tracklets": sorted(map(str, (row.tracklets for row in HITSZ_VCM.plan(settings)["test"]))),
        "advance": [np.diff(take.window).tolist() for take in happenings],
        "obstacles": [take.obstacle.tolist() for take in happenings],
    }


PEOPLE = {"body", "gait", "clothes"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"site_seed": 0}, set()),
        # Where a camera looks decides how fast the background slides past.
        ({"site_seed": 5}, {"cameras", "background", "advance"}),
        ({"likeness": 0.6}, PEOPLE),
        ({"gait_only": True}, {"body", "clothes"}),
        ({"gait_speed": True}, {"advance"}),
        ({"test_nuisance": 0.9}, {"test walks", "advance"}),
        ({"nuisance": 0.9}, {"training walks"}),
        ({"tracklet_frames": 18}, {"tracklets"}),
    ],
)
def test_a_setting_changes_what_it_says_and_nothing_else(change, expected):
    before, after = parts(BASE), parts(changed(**change))
    assert {name for name in before if before[name] != after[name]} == expected


def test_another_seed_at_the_same_site_changes_everything_but_the_site():
    before, after = parts(BASE), parts(changed(seed=9, site_seed=BASE.seed))
    kept = {"cameras", "background"}
    assert {name for name in before if before[name] == after[name]} == kept


@pytest.mark.parametrize("modality", [VISIBLE, INFRARED])
def test_another_site_shows_other_pictures_and_the_own_site_the_same(modality):
    here = render_walk(BASE, walk(modality=modality))
    same = render_walk(changed(site_seed=BASE.seed), walk(modality=modality))
    there = render_walk(changed(site_seed=5), walk(modality=modality))
    np.testing.assert_array_equal(here, same)
    assert np.abs(here.astype(int) - there).mean() > 5


def mean_picture(settings, camid):
    """What a camera sees on average, 48 x 24 x 3: its background and its light."""
    frames = [render_walk(settings, walk(pid=pid, camid=camid)) for pid in range(501, 511)]
    return np.mean(frames, axis=(0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_a_picture_shows_the_background_and_the_light_of_its_site(difficulty):
    """Without difficulty cameras are alike in all but what stands behind; with it, in nothing."""
    own, guests, elsewhere = (
        changed(seed=seed, site_seed=site, difficulty=difficulty)
        for seed, site in ((5, 5), (0, 5), (0, 0))
    )
    for camid in (3, 6):
        here, there = mean_picture(own, camid), mean_picture(elsewhere, camid)
        shown = mean_picture(guests, camid)
        assert np.abs(shown - here).mean() < 0.5 * np.abs(shown - there).mean()


@pytest.mark.slow
def test_files_have_the_jpeg_quality_of_the_sites_camera(tmp_path):
    settings = SyntheticSettings(
        train_ids=2, test_ids=2, height=32, width=16, max_frames=12, site_seed=5
    )
    render_hitsz_vcm(tmp_path, settings)
    row = HITSZ_VCM.plan(settings)["test"][0]
    picture = Image.fromarray(render_walk(settings, row.walk)[0])
    written = (tmp_path / row.files[0]).read_bytes()
    for site in (5, 0):
        file = io.BytesIO()
        quality = draw_camera(site, row.walk.camid, settings.difficulty).quality
        picture.save(file, "JPEG", quality=quality, subsampling=0)
        assert (file.getvalue() == written) == (site == 5)


def test_people_of_full_likeness_are_the_same_person_whatever_the_difficulty():
    for difficulty in (0.0, 0.8):
        settings = changed(likeness=1, difficulty=difficulty)
        assert [flat(person_of(settings, pid)) for pid in PIDS] == [flat(AVERAGE)] * len(PIDS)


def test_people_without_likeness_are_those_of_difficulty_zero():
    for difficulty in (0.0, 0.5, 1.0):
        settings = changed(likeness=0, difficulty=difficulty)
        for pid in PIDS:
            assert flat(person_of(settings, pid)) == flat(draw_identity(BASE.seed, pid, 0.0))


@pytest.mark.slow
def test_likeness_makes_people_alike_in_the_picture_while_the_scene_stays():
    def gaps(likeness):
        """Mean difference between two people in the same walk, of every pair; gray levels."""
        settings = changed(likeness=likeness)
        people = [person_of(settings, pid) for pid in PIDS]
        frames = [render_person(settings, walk(), person).astype(int) for person in people]
        return np.mean([np.abs(a - b).mean() for a in frames for b in frames])

    none, half, nearly, full = (gaps(likeness) for likeness in (0.0, 0.5, 0.95, 1.0))
    assert none > half > nearly > full == 0
    assert nearly < 0.25 * none


@pytest.mark.slow
@given(st.integers(1, 400), st.floats(0, 1), st.floats(0, 1))
def test_the_more_likeness_the_nearer_to_the_average_person_in_everything(pid, one, two):
    low, high = sorted((one, two))
    person = draw_identity(0, pid, 0.0)
    less, more = (pull(person, value, np.random.default_rng(pid)) for value in (low, high))
    for own, nearer, average in zip(flat(less), flat(more), flat(AVERAGE), strict=True):
        if isinstance(average, str):
            assert nearer in (own, average)
        else:
            assert abs(nearer - average) <= abs(own - average) + 1e-12


@pytest.mark.parametrize("likeness", [None, 0.0, 0.5, 0.9])
def test_the_standard_deviation_of_gait_follows_the_likeness(likeness):
    settings = changed(likeness=likeness)
    people = [person_of(settings, pid) for pid in range(1, 400)]
    for name, (low, high) in GAIT_RANGES.items():
        values = [getattr(person.gait, name) for person in people]
        expected = people_scale(settings) * (high - low) / np.sqrt(12)
        assert np.std(values) == pytest.approx(expected, rel=0.1), name


@pytest.mark.slow
@pytest.mark.parametrize("modality", [VISIBLE, INFRARED])
def test_with_gait_only_people_in_the_same_pose_look_the_same(modality):
    settings = changed(gait_only=True)
    people = [person_of(settings, pid) for pid in PIDS]
    gait = people[0].gait
    posed = [dataclasses.replace(person, gait=gait) for person in people]
    frames = [render_person(settings, walk(modality=modality), person) for person in posed]
    assert all((other == frames[0]).all() for other in frames[1:])
    own = [render_person(settings, walk(modality=modality), person) for person in people]
    gaps = [np.abs(other.astype(int) - own[0]).mean() for other in own[1:]]
    assert min(gaps) > 0.5, "and their gait tells them apart"


def test_the_gait_of_gait_only_is_everybodys_own():
    for likeness in (None, 0.3):
        settings = changed(likeness=likeness)
        for pid in PIDS:
            alone = person_of(dataclasses.replace(settings, gait_only=True), pid)
            assert alone.gait == person_of(settings, pid).gait


def measured_stride(person):
    """From one footprint to the next of the same foot, by how far the ankles ever are apart."""
    joints = pose(person, np.linspace(0, 2 * np.pi, 5001))
    ankles = [joints[f"{side} ankle"][:, 2] for side in SIDES]
    return max(ankles[0] - ankles[1]) + max(ankles[1] - ankles[0])


def test_a_walker_advances_by_stride_times_frequency():
    paces = []
    for person, camera, take in takes(changed(gait_speed=True, difficulty=0.2, likeness=0.0)):
        frequency = np.diff(take.phase) / (2 * np.pi)
        speed = measured_stride(person) * frequency * camera.zoom  # picture heights a frame
        advance = np.diff(take.window)
        np.testing.assert_allclose(advance, speed * np.sin(take.heading[1:]), atol=2e-5)
        paces.append(speed[0])
    assert max(paces) > 1.5 * min(paces)


def test_by_default_everybody_advances_alike():
    for _, _, take in takes(BASE):
        np.testing.assert_allclose(
            np.diff(take.window), 0.055 * np.sin(take.heading[1:]), atol=1e-7
        )


def test_test_people_have_habits_when_asked():
    def manners(nuisance):
        """(camera sets alike in both modalities, directions and lights of a person)."""
        walks = plan_split(changed(test_nuisance=nuisance, test_ids=30), "test")
        lights, cameras = {}, {}
        for planned in walks:
            lights.setdefault(planned.pid, set()).add((planned.reverse, planned.light))
            cameras.setdefault((planned.pid, planned.modality), set()).add(planned.camid)
        pids = list(lights)
        alike = sum(cameras[pid, VISIBLE] == cameras[pid, INFRARED] for pid in pids)
        return alike / len(pids), np.mean([len(lights[pid]) for pid in pids])

    (free, many), (some, fewer), (tied, one) = (manners(value) for value in (0.0, 0.7, 1.0))
    assert free < some < tied == 1
    assert many > fewer > one == 1


def test_habits_of_test_people_leave_the_training_split_alone():
    assert plan_split(changed(test_nuisance=1.0), "train") == plan_split(BASE, "train")


def test_tracklets_of_a_walk_are_as_long_as_asked():
    settings = changed(min_frames=60, max_frames=60, tracklet_frames=60)
    for frames, expected in ((60, [60]), (24, [24, 24, 12])):
        rows = HITSZ_VCM.plan(dataclasses.replace(settings, tracklet_frames=frames))["test"]
        long = [row for row in rows if row.walk.frames == 60]
        assert long and all([len(t) for t in row.tracklets] == expected for row in long)


def test_records_name_only_later_settings_that_are_not_the_default():
    old = set(SyntheticSettings().record())
    assert old == {
        *("train_ids", "test_ids", "height", "width", "cameras", "train_cameras", "test_cameras"),
        *("min_frames", "max_frames", "difficulty", "nuisance", "imbalance", "seed"),
    }
    assert set(changed(site_seed=3, gait_only=True).record()) - old == {"site_seed", "gait_only"}


@pytest.mark.slow
def test_a_set_of_another_site_is_told_from_one_of_the_default(tmp_path):
    tiny = SyntheticSettings(train_ids=2, test_ids=2, height=32, width=16, max_frames=12)
    counts = render_hitsz_vcm(tmp_path, dataclasses.replace(tiny, site_seed=4))
    with pytest.raises(InputError, match=r"with site_seed 4 \(asked for: None\)"):
        render_hitsz_vcm(tmp_path, tiny)
    assert render_hitsz_vcm(tmp_path, dataclasses.replace(tiny, site_seed=4)) == counts


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("site_seed", -1, "a whole number between 0 and 2147483647 or None"),
        ("site_seed", 1.5, "a whole number between"),
        ("likeness", 1.01, "a number between 0.0 and 1.0 or None"),
        ("likeness", float("nan"), "a number between 0.0 and 1.0 or None"),
        ("likeness", True, "a number between"),
        ("test_nuisance", None, "a number between 0.0 and 1.0"),
        ("gait_only", 1, "True or False"),
        ("gait_speed", "yes", "True or False"),
        ("tracklet_frames", 11, "a whole number between 12 and 120"),
    ],
)
def test_a_value_outside_its_limits_is_named(field, value, expected):
    with pytest.raises(
        InputError, match=f"synthetic data: {field} is {value!r}, expected {expected}"
    ):
        SyntheticSettings(**{field: value})
