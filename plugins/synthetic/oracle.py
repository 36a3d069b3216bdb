"""Measure how well walks can tell people apart: the ceiling of a bench, without a picture.

The oracle sees the joints of a clip, each located up to Gaussian noise, and knows the camera, where
the walker is heading and how people are distributed. It knows neither the person nor the phase of
the gait nor where in the picture the walker is, and it sees no clothes. So it bounds what can be
learned from body and gait. A clip in order has one unknown phase. In a set of frames each frame has
an unknown phase, and the frequency is lost: the difference is the value of order. Occlusion, blur
and the network's reading of pixels enter only through the chosen noise.

It estimates a person as well as the Fisher information allows (Cramer, Rao), and compares two clips
by the likelihood ratio of one person against two, under a Gaussian prior (as PLDA does).

Legend: T frames of a clip, J joints, D = 2 J coordinates of a frame, P parameters of a person, each
in standard deviations over people, N clips, Q queries, G gallery clips.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from plugins.data.windows import test_windows
from plugins.evaluation.ranking import evaluate_distances
from plugins.evaluation.side import Side
from plugins.evaluation.vvi_evaluator import scores
from plugins.synthetic.figure import project
from plugins.synthetic.identity import BODY_RANGES, GAIT_RANGES, Identity
from plugins.synthetic.layouts import HITSZ_VCM
from plugins.synthetic.likeness import people_scale, person_of
from plugins.synthetic.plan import INFRARED, VISIBLE, Walk
from plugins.synthetic.pose import pose
from plugins.synthetic.scene import Camera, draw_camera
from plugins.synthetic.settings import SHORTEST_TRACKLET, SyntheticSettings
from plugins.synthetic.streams import Stream, stream
from plugins.synthetic.take import draw_take

# (part, name) of each parameter of a person to its mean and standard deviation over people.
Scales = dict[tuple[str, str], tuple[float, float]]
_STEP = 1e-4  # of central differences, standard deviations or radians


@dataclass(frozen=True)
class SeenClip:
    """A clip as the oracle sees it.

    Attributes:
        walk: the walk of the clip.
        person: the walker.
        camera: the recording camera.
        frames: (T,) indices in the walk.
        phase: (T,) of the gait, radians.
        heading: (T,) of the walker, radians.
    """

    walk: Walk
    person: Identity
    camera: Camera
    frames: np.ndarray
    phase: np.ndarray
    heading: np.ndarray


def ceiling(
    settings: SyntheticSettings,
    frames: int = 8,
    stride: int = 2,
    noise: float = 1.0,
    ordered: bool = True,
) -> dict[str, dict[str, float | int]]:
    """Score the oracle on the test split, cut into tracklets as in the layout of HITSZ-VCM.

    Args:
        settings: settings of the data set.
        frames: T; a clip is the window in the middle of a tracklet.
        stride: frames from one frame of a clip to the next.
        noise: standard deviation with which a joint is located, pixels.
        ordered: the frames' order and distance are known; otherwise they are a set.

    Returns:
        "I2V" and "V2I" to "Rank-1", "mAP" and the other scores, percent.
    """
    clips = see_clips(settings, frames, stride)
    scale = scales_of(settings)
    information = np.stack(
        [fisher_information(clip, scale, settings.height, noise, ordered) for clip in clips]
    )
    people = {clip.walk.pid: parameters_of(clip.person, scale) for clip in clips}
    rng = np.random.default_rng([settings.seed, frames, stride])
    draws = rng.standard_normal((len(clips), len(scale)))
    evidence = np.stack(
        [
            matrix @ people[clip.walk.pid] + _root(matrix) @ draw
            for matrix, clip, draw in zip(information, clips, draws, strict=True)
        ]
    )
    pids, camids, modalities = (
        torch.tensor([getattr(clip.walk, key) for clip in clips])
        for key in ("pid", "camid", "modality")
    )
    rows = [(modalities == modality).nonzero()[:, 0] for modality in (VISIBLE, INFRARED)]
    ratio = log_likelihood_ratio(*(part[row] for row in rows for part in (evidence, information)))
    distances = -torch.from_numpy(ratio)  # visible clips by infrared ones
    # The distances are known, so no features are.
    clip_sides = [Side(torch.empty(len(row), 0), pids[row], camids[row]) for row in rows]
    blocks = {}
    for name, query, gallery in (("I2V", INFRARED, VISIBLE), ("V2I", VISIBLE, INFRARED)):
        matrix = distances if query == VISIBLE else distances.T.contiguous()
        blocks[name] = scores(evaluate_distances(matrix, clip_sides[query], clip_sides[gallery]))
    return blocks


def see_clips(settings: SyntheticSettings, frames: int, stride: int) -> list[SeenClip]:
    """List the middle window of each test tracklet that a reader does not pass over."""
    clips = []
    for row in HITSZ_VCM.plan(settings)["test"]:
        walk = row.walk
        person = person_of(settings, walk.pid)
        camera = draw_camera(settings.site, walk.camid, settings.difficulty)
        rng = stream(settings.seed, Stream.WALK, walk.pid, walk.modality, walk.number)
        take = draw_take(rng, person, camera, walk, settings)
        for tracklet in row.tracklets:
            if len(tracklet) >= SHORTEST_TRACKLET:
                (window,) = test_windows(len(tracklet), frames, stride, clips=1)
                chosen = np.array(tracklet)[window]
                phase, heading = take.phase[chosen], take.heading[chosen]
                clips.append(SeenClip(walk, person, camera, chosen, phase, heading))
    return clips


def fisher_information(
    clip: SeenClip,
    scale: Scales,
    height: int,
    noise: float,
    ordered: bool,
) -> np.ndarray:
    """Compute the Fisher information of a clip about the parameters of its person.

    Args:
        clip: the clip.
        scale: scales of the people's parameters.
        height: height of the picture, pixels.
        noise: standard deviation of a joint's coordinates, pixels.
        ordered: one phase is unknown; otherwise one of each frame.

    Returns:
        (P, P), with phases and the place in the picture unknown.
    """
    slope = np.stack([_slope(clip, key, scale[key][1], height) for key in scale], axis=-1)
    turn = _difference(clip, clip.person, clip.person, height, turn=_STEP) / (2 * _STEP)
    if ordered:
        # The phase of a frame is that of the clip's middle and what the frequency adds until then.
        since = clip.frames - clip.frames.mean()
        deviation = scale["gait", "frequency"][1]
        slope[..., list(scale).index(("gait", "frequency"))] = (
            turn * 2 * np.pi * deviation * since[:, None]
        )
        slope, turn = slope.reshape(1, -1, len(scale)), turn.reshape(1, -1)
    # For each unknown phase, what a change of it explains is no evidence.
    share = np.einsum("td,tdp->tp", turn, slope) / (turn**2).sum(axis=1)[:, None]
    slope = slope - turn[..., None] * share[:, None]
    return np.einsum("tdp,tdq->pq", slope, slope) / noise**2


def log_likelihood_ratio(
    query: np.ndarray,
    query_information: np.ndarray,
    gallery: np.ndarray,
    gallery_information: np.ndarray,
) -> np.ndarray:
    """Weigh one person against two, for each query and gallery clip.

    A clip of a person z ~ N(0, I) with information F gives evidence y ~ N(F z, F).

    Args:
        query: (Q, P) y.
        query_information: (Q, P, P) F.
        gallery: (G, P) y.
        gallery_information: (G, P, P) F.

    Returns:
        (Q, G) natural logarithms.
    """
    identity = np.eye(query.shape[1])

    def alone(evidence: np.ndarray, information: np.ndarray) -> np.ndarray:
        """Compute log p(y | F), (...,), without the terms that both hypotheses share."""
        precision = identity + information
        mean = np.linalg.solve(precision, evidence[..., None])[..., 0]
        return 0.5 * ((evidence * mean).sum(axis=-1) - np.linalg.slogdet(precision)[1])

    together = np.stack(
        [
            alone(y + gallery, information + gallery_information)
            for y, information in zip(query, query_information, strict=True)
        ]
    )
    return together - alone(query, query_information)[:, None] - alone(gallery, gallery_information)


def scales_of(settings: SyntheticSettings) -> Scales:
    """List the unknowns of a person: the gait, and the body unless all have the same."""
    ranges = {("gait", name): limits for name, limits in GAIT_RANGES.items()}
    if not settings.gait_only:
        ranges |= {("body", name): limits for name, limits in BODY_RANGES.items()}
    # Of a uniform draw.
    std = people_scale(settings) / np.sqrt(12)
    return {key: ((low + high) / 2, std * (high - low)) for key, (low, high) in ranges.items()}


def parameters_of(person: Identity, scale: Scales) -> np.ndarray:
    """Return a person's parameters (P,), in standard deviations; 0 if all people are alike."""
    return np.array(
        [
            (getattr(getattr(person, part), name) - mean) / deviation if deviation else 0.0
            for (part, name), (mean, deviation) in scale.items()
        ]
    )


def _slope(clip: SeenClip, key: tuple[str, str], deviation: float, height: int) -> np.ndarray:
    """Return the pixels (T, D) by which a standard deviation of a parameter moves the joints."""
    part, name = key
    numbers = getattr(clip.person, part)
    value, step = getattr(numbers, name), _STEP * deviation
    more, less = (
        dataclasses.replace(clip.person, **{part: dataclasses.replace(numbers, **{name: moved})})
        for moved in (value + step, value - step)
    )
    return _difference(clip, more, less, height) / (2 * _STEP)


def _difference(
    clip: SeenClip, first: Identity, second: Identity, height: int, turn: float = 0.0
) -> np.ndarray:
    """Return the pixels (T, D) between two people's joints, phases ``turn`` ahead and behind."""
    return see_joints(clip, first, clip.phase + turn, height) - see_joints(
        clip, second, clip.phase - turn, height
    )


def see_joints(clip: SeenClip, person: Identity, phase: np.ndarray, height: int) -> np.ndarray:
    """Return the joints (T, D) of a person in the place of the walker, pixels from their middle."""
    joints = np.stack(list(pose(person, phase).values()), axis=1)  # (T, J, 3)
    right, down, _ = project(joints, clip.heading[:, None], clip.camera.tilt)
    points = height * clip.camera.zoom * np.stack([right, down], axis=-1)
    return (points - points.mean(axis=1, keepdims=True)).reshape(len(phase), -1)


def _root(matrix: np.ndarray) -> np.ndarray:
    """Return the symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
