import dataclasses

import numpy as np
import pytest
from scipy.optimize import least_squares

from plugins.synthetic import SyntheticSettings
from plugins.synthetic.identity import BODY_RANGES, GAIT_RANGES
from plugins.synthetic.oracle import (
    SeenClip,
    ceiling,
    fisher_information,
    log_likelihood_ratio,
    parameters_of,
    scales_of,
    see_clips,
    see_joints,
)

SETTINGS = SyntheticSettings(
    train_ids=2, test_ids=14, test_cameras=2, min_frames=24, max_frames=24, likeness=0.5
)


def changed(**values):
    return dataclasses.replace(SETTINGS, **values)


def found(noise=1.0, ordered=True, frames=8, **values):
    table = ceiling(changed(gait_only=True, **values), frames=frames, noise=noise, ordered=ordered)
    return np.mean([table[direction]["mAP"] for direction in ("I2V", "V2I")])


@pytest.mark.slow
def test_the_more_alike_people_are_the_less_the_oracle_tells_them_apart():
    chance = found(likeness=1.0)
    scores = [found(likeness=likeness) for likeness in (0.0, 0.5, 0.9)]
    assert scores[0] > 99 and scores[0] >= scores[1] > scores[2] + 20 > chance + 20
    assert chance < 40


@pytest.mark.slow
def test_order_noise_and_length_count():
    exact, noisy, noisiest = (found(noise=noise, likeness=0.7) for noise in (0.01, 1.0, 4.0))
    assert exact == 100 > noisy > noisiest + 20
    assert found(likeness=0.7) > found(likeness=0.7, ordered=False) + 5
    assert found(likeness=0.7, frames=10) > found(likeness=0.7, frames=3) + 5
    # Of one frame there is no order.
    assert found(noise=0.3, frames=1) == pytest.approx(found(noise=0.3, frames=1, ordered=False))


@pytest.mark.slow
def test_bodies_tell_more_and_a_picture_of_more_pixels_too():
    alone = found(likeness=0.8)
    table = ceiling(changed(likeness=0.8))
    assert np.mean([table[name]["mAP"] for name in ("I2V", "V2I")]) > alone + 2
    assert found(likeness=0.8, height=128, width=64) > alone + 10


def with_parts(person, **parts):
    """The person with other numbers of body or gait."""
    changes = {part: dataclasses.replace(getattr(person, part), **parts[part]) for part in parts}
    return dataclasses.replace(person, **changes)


def estimate(clip, scale, height, noise, ordered, rng):
    """The most probable parameters, searched for with the model and the prior at hand."""
    keys, phase = list(scale), clip.phase
    since = (clip.frames - clip.frames.mean()) * 2 * np.pi

    def person_at(values):
        parts = {"body": {}, "gait": {}}
        for (part, name), value in zip(keys, values, strict=True):
            mean, deviation = scale[part, name]
            parts[part][name] = mean + deviation * value
        return with_parts(clip.person, **parts)

    clean = see_joints(clip, clip.person, phase, height)
    seen = clean + noise * rng.standard_normal(clean.shape)

    def residuals(values):
        own, phases = values[: len(keys)], values[len(keys) :]
        person = person_at(own)
        if ordered:
            phases = phases[0] + person.gait.frequency * since
        joints = see_joints(clip, person, phases, height)
        return np.concatenate([((joints - seen) / noise).ravel(), own])  # and the prior

    start = phase if not ordered else [phase.mean()]
    return least_squares(residuals, [*np.zeros(len(keys)), *start]).x[: len(keys)]


@pytest.mark.slow
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("place", [0, 3, 9])
def test_an_estimate_from_noisy_joints_is_as_good_as_the_information_says(ordered, place):
    """A clip's person is drawn anew each time, as the prior has it."""
    settings, noise, rng = changed(gait_only=True), 0.5, np.random.default_rng(0)
    scale, clip = scales_of(settings), see_clips(settings, 8, 2)[place]
    steps = 2 * np.pi * (clip.frames - clip.frames.mean())
    errors, expected = [], []
    for _ in range(25):
        values = rng.standard_normal(len(scale))
        pairs = zip(scale.items(), values, strict=True)
        gait = {name: mean + deviation * z for ((_, name), (mean, deviation)), z in pairs}
        person = with_parts(clip.person, gait=gait)
        phase = rng.random() * 6 + person.gait.frequency * steps
        own = dataclasses.replace(clip, person=person, phase=phase)
        errors.append(estimate(own, scale, 64, noise, ordered, rng) - values)
        information = fisher_information(own, scale, 64, noise, ordered)
        expected.append(np.diag(np.linalg.inv(np.eye(len(scale)) + information)))
    errors, expected = np.square(errors).mean(axis=0), np.mean(expected, axis=0)
    seen = [name for (_, name), value in zip(scale, expected, strict=True) if value < 0.99]
    # Sway moves the whole walker, whose place in the picture is unknown.
    lost = {"sway"} if ordered else {"sway", "frequency"}
    assert set(GAIT_RANGES) - set(seen) == lost
    assert (errors / expected)[expected < 0.99].mean() == pytest.approx(1, rel=0.25)


def test_the_likelihood_ratio_is_that_of_gaussians():
    """Against densities of y = F z + root(F) e written out, for one and for two people."""
    rng = np.random.default_rng(1)
    size = 3

    def density(value, covariance):
        _, logdet = np.linalg.slogdet(covariance)
        return -0.5 * (value @ np.linalg.solve(covariance, value) + logdet)

    matrices, values = [], []
    for _ in range(5):
        root = rng.standard_normal((size, size + 2))
        matrices.append(root @ root.T)
        values.append(rng.standard_normal(size))
    matrices, values = np.array(matrices), np.array(values)
    ratio = log_likelihood_ratio(values[:2], matrices[:2], values[2:], matrices[2:])
    for q in range(2):
        for g in range(3):
            one, other = matrices[q], matrices[2 + g]
            own = [f @ f + f for f in (one, other)]
            joint = np.block([[own[0], one @ other], [other @ one, own[1]]])
            both = np.concatenate([values[q], values[2 + g]])
            apart = density(values[q], own[0]) + density(values[2 + g], own[1])
            assert ratio[q, g] == pytest.approx(density(both, joint) - apart)


@pytest.mark.slow
def test_parameters_are_standard_deviations_of_what_differs():
    for gait_only, names in ((True, GAIT_RANGES), (False, GAIT_RANGES | BODY_RANGES)):
        settings = changed(gait_only=gait_only, test_ids=200)
        scale = scales_of(settings)
        assert [name for _, name in scale] == list(names)
        people = {clip.walk.pid: clip.person for clip in see_clips(settings, 4, 2)}
        values = np.array([parameters_of(person, scale) for person in people.values()])
        np.testing.assert_allclose(values.std(axis=0), 1, atol=0.1)
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=0.2)


@pytest.mark.slow
def test_the_oracle_sees_the_frames_of_the_middle_window():
    clips = see_clips(SETTINGS, 8, 2)
    assert len(clips) == 14 * 2 * 2 and all(isinstance(clip, SeenClip) for clip in clips)
    for clip in clips:
        assert clip.frames.tolist() == list(range(4, 20, 2))
        frequency = np.diff(clip.phase) / (2 * np.pi * 2)
        np.testing.assert_allclose(frequency, clip.person.gait.frequency)
