"""Compute where a walker's joints are: gait to angles, angles to joints.

Body frame: left, up, forward; the origin lies on the ground below the hips; the body is 1 high.
Legend: T frames.
"""

import numpy as np

from plugins.synthetic.identity import Gait, Identity

SIDES = {"left": 1.0, "right": -1.0}  # and the sign of that side on the body's left axis
ANKLE = 0.035  # height of an ankle whose foot stands on the ground
_TORSO = 0.315  # hip joint to shoulder
_PHASES = 96  # of a cycle, at which a stride is measured


def pose(person: Identity, phase: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the joints of a walk.

    Legs and arms swing like pendulums; a knee bends while its leg swings forward. The lowest ankle
    stands on the ground, which makes the body bob.

    Args:
        person: body and gait.
        phase: (T,) radians.

    Returns:
        Joint name to (T, 3), body frame: pelvis, chest, neck, chin, crown; and with "left " or
        "right " before it hip, knee, ankle, toe, shoulder, elbow, wrist.
    """
    body, gait = person.body, person.gait
    bone = 0.5 * (body.leg - ANKLE)  # thigh and shin alike
    legs = {side: _leg_angles(gait, phase, sign) for side, sign in SIDES.items()}
    drop = [bone * (np.cos(thigh) + np.cos(shin)) for thigh, shin in legs.values()]
    pelvis = np.stack(
        [gait.sway * np.sin(phase), np.maximum(*drop) + ANKLE, np.zeros_like(phase)], axis=1
    )
    chest = pelvis + _TORSO * np.array([0.0, np.cos(gait.lean), np.sin(gait.lean)])
    neck = chest + np.array([0.0, 0.045, 0.1 * gait.lean])
    ahead = 0.012 + 0.10 * gait.lean
    chin = neck + np.array([0.0, 0.015, ahead])
    crown = chin + np.array([0.0, 0.098 * body.head, 0.3 * ahead])
    joints = {"pelvis": pelvis, "chest": chest, "neck": neck, "chin": chin, "crown": crown}
    for side, sign in SIDES.items():
        thigh, shin = legs[side]
        hip = pelvis + np.array([0.62 * sign * body.hip, 0.0, 0.0])
        knee = hip + bone * _down(thigh)
        ankle = knee + bone * _down(shin)
        upper, lower = _arm_angles(gait, phase, sign)
        shoulder = chest + np.array([sign * (body.shoulder - 0.018), -0.034, 0.0])
        shoulder[:, 2] += 0.035 * np.sin(upper)
        outward = np.array([0.022 * sign, 0.0, 0.0])
        elbow = shoulder + 0.50 * body.arm * _down(upper) + outward
        wrist = elbow + 0.46 * body.arm * _down(lower)
        joints |= {
            f"{side} hip": hip,
            f"{side} knee": knee,
            f"{side} ankle": ankle,
            f"{side} toe": ankle + _foot(shin),
            f"{side} shoulder": shoulder,
            f"{side} elbow": elbow,
            f"{side} wrist": wrist,
        }
    return joints


def stride_length(person: Identity) -> float:
    """Measure the stride, two steps from one footprint to the next of the same foot; body heights.

    A step is as long as the ankles are apart, along the path, when that foot is farthest in front.
    """
    joints = pose(person, 2 * np.pi * np.arange(_PHASES) / _PHASES)
    apart = joints["left ankle"][:, 2] - joints["right ankle"][:, 2]
    return float(apart.max() - apart.min())


def walking_speed(person: Identity) -> float:
    """Return stride times frequency, body heights a frame."""
    return stride_length(person) * person.gait.frequency


def _cycle(phase: np.ndarray, sign: float) -> np.ndarray:
    """Return the phase of a leg; the right leg walks half a cycle behind the left one."""
    return phase if sign > 0 else phase + np.pi


def _leg_angles(gait: Gait, phase: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute the angles of thigh and shin, (T,) radians forward of hanging down."""
    cycle = _cycle(phase, sign)
    thigh = gait.stride * (1 + sign * gait.asymmetry) * np.sin(cycle)
    return thigh, thigh - 0.08 - gait.knee * (0.5 + 0.5 * np.cos(cycle + 0.4)) ** 2


def _arm_angles(gait: Gait, phase: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute the angles of upper arm and forearm, (T,) radians; they swing against the leg."""
    swing = gait.arm_swing * (1 - sign * gait.asymmetry) * np.sin(_cycle(phase, sign))
    upper = -swing - 0.3 * gait.lean
    return upper, upper + gait.elbow * (0.75 + 0.5 * np.sin(upper))


def _down(angle: np.ndarray) -> np.ndarray:
    """Return the unit vectors (T, 3) that hang down, swung forward by ``angle``."""
    return np.stack([np.zeros_like(angle), -np.cos(angle), np.sin(angle)], axis=1)


def _foot(shin: np.ndarray) -> np.ndarray:
    """Return ankle to toe, (T, 3): flat on the ground, pointing down while the shin is behind."""
    pitch = np.clip(-0.7 * shin - 0.1, 0.0, 1.2)
    toe = np.stack([np.zeros_like(pitch), -np.sin(pitch), np.cos(pitch)], axis=1)
    return 0.085 * toe - np.array([0.0, 0.018, 0.0])
