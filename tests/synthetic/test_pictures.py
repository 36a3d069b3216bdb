import dataclasses
import hashlib

import numpy as np
import pytest
from PIL import Image

from plugins.synthetic.figure import walking_figure
from plugins.synthetic.frame import render_person, render_walk
from plugins.synthetic.identity import Palette, Surface, draw_identity
from plugins.synthetic.plan import INFRARED, VISIBLE, Walk
from plugins.synthetic.pose import ANKLE, SIDES, pose
from plugins.synthetic.raster import Cloth, Shapes, paint
from plugins.synthetic.settings import SyntheticSettings
from plugins.synthetic.sheet import save_sheet

SMALL = SyntheticSettings(height=48, width=24)


def walk(pid=501, modality=VISIBLE, camid=3, frames=12):
    return Walk(pid, modality, camid, number=0, frames=frames, reverse=False, light=0.3)


def one_limb(start, end, half):
    column = np.ones((1, 1))
    return Shapes(
        start=np.array([[start]], dtype=float),
        end=np.array([[end]], dtype=float),
        width=np.full((1, 1, 3), half),
        cap=column,
        depth=column,
        surface=column.astype(int) * Surface.TOP,
        chest=0 * column,
    )


def white_on_black(shapes, height, width):
    canvas = np.zeros((1, height, width, 1), dtype=np.float32)
    white = np.ones((len(Surface), 1))
    plain = Cloth(np.zeros((len(Surface), 3)), np.ones(len(Surface)), np.zeros(len(Surface)))
    paint(canvas, shapes, Palette(white, white), plain, side_light=0.0)
    return canvas[0, ..., 0]


@pytest.mark.parametrize(
    ("start", "end"), [((0.3, 0.2), (0.6, 0.8)), ((0.5, 0.5), (0.5, 0.5)), ((0.9, 0.5), (1.4, 0.5))]
)
def test_a_limb_covers_the_points_nearer_to_its_axis_than_its_half_width(start, end):
    half, size = 0.1, 60
    painted = white_on_black(one_limb(start, end, half), size, size) > 0
    for row in range(size):
        for column in range(size):
            point = (np.array([column, row]) + 0.5) / size
            axis = np.subtract(end, start)
            share = np.clip(np.dot(point - start, axis) / max(np.dot(axis, axis), 1e-9), 0, 1)
            gap = np.linalg.norm(point - start - share * axis) - half
            if abs(gap) > 1 / size:  # a pixel on the edge may go either way
                assert painted[row, column] == (gap < 0), (row, column)


def test_a_limb_outside_the_picture_paints_nothing():
    assert not white_on_black(one_limb((2.0, 2.0), (2.5, 3.0), 0.1), 20, 20).any()


def test_near_limbs_hide_far_ones_whatever_their_order():
    near, far = one_limb((0.5, 0.2), (0.5, 0.8), 0.2), one_limb((0.2, 0.5), (0.8, 0.5), 0.2)
    near = dataclasses.replace(near, depth=2 * near.depth)
    far = dataclasses.replace(far, surface=far.surface * 0 + Surface.BAG)
    pictures = []
    for shapes in (near + far, far + near):
        canvas = np.zeros((1, 30, 30, 1), dtype=np.float32)
        tones = np.zeros((len(Surface), 1))
        tones[Surface.TOP] = 1.0
        plain = Cloth(np.zeros((len(Surface), 3)), np.ones(len(Surface)), np.zeros(len(Surface)))
        paint(canvas, shapes, Palette(tones, tones), plain, side_light=0.0)
        pictures.append(canvas)
    np.testing.assert_array_equal(*pictures)
    assert pictures[0][0, 15, 15, 0] > 0.9


@pytest.mark.parametrize("pid", [1, 2, 501])
def test_a_walker_always_has_one_foot_on_the_ground_and_never_one_below(pid):
    person = draw_identity(0, pid, 0.0)
    joints = pose(person, np.linspace(0, 2 * np.pi, 40))
    ankles = np.stack([joints[f"{side} ankle"][:, 1] for side in SIDES])
    np.testing.assert_allclose(ankles.min(axis=0), ANKLE, atol=1e-9)


def test_bones_keep_their_length_while_walking():
    joints = pose(draw_identity(0, 1, 0.0), np.linspace(0, 2 * np.pi, 40))
    for side in SIDES:
        for bone in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
            start, end = (joints[f"{side} {joint}"] for joint in bone)
            lengths = np.linalg.norm(end - start, axis=1)
            assert lengths.min() > 0.1 and np.ptp(lengths) < 0.004, (side, bone)


def test_walking_to_the_left_is_the_mirror_image_of_walking_to_the_right():
    person = draw_identity(0, 1, 0.0)
    body = dataclasses.replace(person.gait, asymmetry=0.0, sway=0.0)
    person = dataclasses.replace(
        person, gait=body, outfit=dataclasses.replace(person.outfit, carried="none")
    )
    phase = np.linspace(0, 6, 9)
    right = walking_figure(person, phase, np.full(9, np.pi / 2), 0.1)
    left = walking_figure(person, phase + np.pi, np.full(9, -np.pi / 2), 0.1)
    extent = [np.concatenate([s.start, s.end], axis=1)[..., 0] for s in (right, left)]
    np.testing.assert_allclose(extent[0].max(axis=1), -extent[1].min(axis=1), atol=1e-5)
    np.testing.assert_allclose(extent[0].min(axis=1), -extent[1].max(axis=1), atol=1e-5)


@pytest.mark.parametrize("modality", [VISIBLE, INFRARED])
def test_frames_have_the_size_asked_for_and_are_no_flat_pictures(modality):
    settings = SyntheticSettings(height=50, width=21)
    frames = render_walk(settings, walk(modality=modality, frames=13))
    assert frames.shape == (13, 50, 21, 3) and frames.dtype == np.uint8
    assert (frames.std(axis=(1, 2, 3)) > 5).all()


def test_the_same_seed_gives_the_same_frames_and_another_seed_others():
    first, again = render_walk(SMALL, walk()), render_walk(SMALL, walk())
    np.testing.assert_array_equal(first, again)
    other = render_walk(dataclasses.replace(SMALL, seed=1), walk())
    assert (first != other).mean() > 0.5


def test_pictures_are_those_of_this_renderer_version_on_every_platform():
    # Where a change of the drawing is meant: raise RENDERER in writers.py and renew the digest.
    frames = [render_walk(SMALL, walk(modality=modality)) for modality in (VISIBLE, INFRARED)]
    digest = hashlib.sha256(np.stack(frames).tobytes()).hexdigest()
    assert digest[:16] == "274e45f3231d08c7"


def test_infrared_frames_are_gray_and_visible_ones_are_not():
    infrared, visible = (render_walk(SMALL, walk(modality=m)) for m in (INFRARED, VISIBLE))
    assert (np.ptp(infrared, axis=3) == 0).all()
    assert np.ptp(visible, axis=3).mean() > 5


def test_infrared_does_not_see_the_dye_and_visible_light_not_the_fibre():
    person = draw_identity(SMALL.seed, 501, SMALL.difficulty)
    visible, infrared = person.visible, person.infrared
    redyed = dataclasses.replace(person, visible=Palette(1 - visible.base, 1 - visible.accent))
    rewoven = dataclasses.replace(person, infrared=Palette(1 - infrared.base, infrared.accent))
    for modality, blind, sees in ((INFRARED, redyed, rewoven), (VISIBLE, rewoven, redyed)):
        before = render_person(SMALL, walk(modality=modality), person)
        np.testing.assert_array_equal(before, render_person(SMALL, walk(modality=modality), blind))
        changed = render_person(SMALL, walk(modality=modality), sees)
        assert np.abs(before.astype(int) - changed).mean() > 2


def test_dye_and_fibre_are_uncorrelated_over_people():
    people = [draw_identity(0, pid, 0.0) for pid in range(1, 301)]
    for surface in (Surface.TOP, Surface.BOTTOM, Surface.BAG):
        dye = [person.visible.base[surface].mean() for person in people]
        fibre = [person.infrared.base[surface, 0] for person in people]
        assert abs(np.corrcoef(dye, fibre)[0, 1]) < 0.15


def test_frames_of_a_walk_differ_from_each_other():
    frames = render_walk(SMALL, walk()).reshape(12, -1).astype(int)
    gaps = np.abs(frames[:, None] - frames[None]).mean(axis=2)
    assert gaps[~np.eye(12, dtype=bool)].min() > 2


@pytest.mark.slow
def test_difficulty_makes_frames_of_a_walk_less_alike_and_people_more():
    def spread(difficulty):
        settings = dataclasses.replace(SMALL, difficulty=difficulty)
        stacks = [render_walk(settings, walk(pid=pid)).reshape(12, -1) for pid in range(501, 511)]
        return -np.mean([np.corrcoef(stack) for stack in stacks])

    def likeness(difficulty):
        people = [draw_identity(0, pid, difficulty) for pid in range(1, 50)]
        return -np.std([person.body.shoulder for person in people])

    for measure in (spread, likeness):
        assert measure(0.0) < measure(0.5) < measure(1.0), measure.__name__


@pytest.mark.slow
def test_the_contact_sheet_shows_every_test_person_up_to_eight(tmp_path):
    heights = []
    for people in (2, 4, 10):
        settings = dataclasses.replace(SMALL, height=32, width=16, test_ids=people)
        save_sheet(tmp_path / "sheet.png", settings)
        heights.append(Image.open(tmp_path / "sheet.png").height)
    row = (heights[1] - heights[0]) / 2
    assert row > 144 and heights[2] - heights[0] == 6 * row


@pytest.mark.slow
def test_a_contact_sheet_of_two_sites_shows_the_same_people_side_by_side(tmp_path):
    settings = dataclasses.replace(SMALL, height=32, width=16, test_ids=2)
    other = dataclasses.replace(settings, site_seed=5)
    sheets = {}
    for name, sets in (("here", [settings]), ("there", [other]), ("both", [settings, other])):
        save_sheet(tmp_path / f"{name}.png", *sets)
        sheets[name] = np.asarray(Image.open(tmp_path / f"{name}.png"))
    rows = 2 * (160 + 6)  # frames are 5 times as large, a gap below each
    here, there, both = (sheets[name][-rows:] for name in ("here", "there", "both"))
    width = here.shape[1] - 76  # without the names of the people
    np.testing.assert_array_equal(both[:, : here.shape[1]], here)
    np.testing.assert_array_equal(both[:, -width:], there[:, 76:])
    assert (here != there).mean() > 0.2
