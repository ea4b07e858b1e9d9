"""A built-in performer: the camera of a machine that has none (`crossglg-edge serve --camera demo`).

It is synthetic. Its people are a few numbers, its actions a few key poses each, everyone is
right-handed: it shows how the device works, and no claim about accuracy may rest on it.

Shapes: L frames, V = 25 kinect25 joints, K key poses, S = 15 pairs of a pose (`streams.synthetic_body`),
D = 2 S; 3 is x, y, z in "LUF", meters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from streams.arrays import Array
from streams.errors import CameraError
from streams.frame import LOW, MEDIUM, NO_CONFIDENCE, Body, SkeletonFrame
from streams.layouts import KINECT25_JOINTS
from streams.movement import Movement
from streams.synthetic_body import ACTION_POSES, ARMS, LEFT, REST, RIGHT, Action, apply_pose, draw_person, joints_at

Float = npt.NDArray[np.float64]

ACTIONS: tuple[str, ...] = tuple(ACTION_POSES)

_NOISE_M = {
    "Knee": 0.004, "Ankle": 0.006, "Foot": 0.008, "Elbow": 0.004, "Wrist": 0.005, "Hand": 0.006,
    "HandTip": 0.009, "Thumb": 0.009,
}  # fmt: skip
_OFTEN_LOST = ("Wrist", "Hand", "HandTip", "Thumb", "Ankle", "Foot")

_ARRIVE_S, _BREAK_OFF_S = 0.5, 0.4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Motion:
    """Hold one performance: turns away from rest at `times_s` (K,), with the slopes there.

    `turns_KD`, `slopes_KD`: degrees, and per second, D = 2 S. `lags_D`: seconds by which the
    forearm and the hand follow.
    """

    times_s: Float
    turns_KD: Float
    slopes_KD: Float
    lags_D: Float
    duration_s: float


class _Sensor:
    """See joints as a depth sensor does: with noise, and now and then a hand or a foot badly."""

    def __init__(self, rng: np.random.Generator, fps: float) -> None:
        kinds = [name.removesuffix("Left").removesuffix("Right") for name in KINECT25_JOINTS]
        self._rng = rng
        self._fps = fps
        # Depth is the worst of the three.
        self._noise_m = np.array([_NOISE_M.get(kind, 0.003) for kind in kinds])[:, None] * [0.8, 0.8, 1.2]
        self._faults_per_frame = np.array([0.015 / fps if kind in _OFTEN_LOST else 0.0 for kind in kinds])
        self._frames_left = np.zeros(25, np.int64)
        self._lost = np.zeros(25, np.bool_)

    def see(self, joints_V3: Float) -> tuple[Array, npt.NDArray[np.uint8]]:
        """Return the joints as seen, NaN where lost, and their confidence."""
        seen_V3 = joints_V3 + self._noise_m * self._rng.standard_normal((25, 3))
        faults = self._rng.random(25) < self._faults_per_frame
        if faults.any():
            frames = self._rng.uniform(0.1, 0.4, 25) * self._fps
            self._frames_left[faults] = np.ceil(frames[faults]).astype(np.int64)
            self._lost[faults] = self._rng.random(25)[faults] < 0.3
        confidence = np.full(25, MEDIUM, np.uint8)
        poor = self._frames_left > 0
        if poor.any():
            confidence[poor] = LOW
            seen_V3[poor] += 2 * (seen_V3 - joints_V3)[poor]
            confidence[poor & self._lost] = NO_CONFIDENCE
            seen_V3[poor & self._lost] = np.nan
            self._frames_left[poor] -= 1
        return seen_V3.astype(np.float32), confidence


class Performer:
    """Play people who perform actions in turn before a sensor, one at a time, without end.

    Pure: no clock and no sleep; the same seed and the same cues give the same frames. Without a
    cue: rest, an action, rest, another; after some actions nobody, then somebody else. `current`:
    the action in the newest frame, None at rest; the truth that a recognizer is held against.
    """

    def __init__(self, *, seed: int = 0, fps: float = 30.0, source: str = "demo", epoch: str | None = None) -> None:
        if not fps > 0:
            raise CameraError(f"performer: expected a frame rate above 0, got fps = {fps}", code="bad_fps")
        self._rng = np.random.default_rng([seed, 0])
        self._sensor = _Sensor(np.random.default_rng([seed, 1]), fps)
        self._fps = fps
        self._source = source
        self._epoch = f"demo-{seed}" if epoch is None else epoch
        self._floor_m = -self._rng.uniform(0.88, 0.98)
        self._seq = 0
        self._programme: list[str] = []
        self._cue: tuple[str, float] | None = None
        self.current: str | None = None
        self._stage: Literal["rest", "act", "away"] = "rest"
        self._body_id = 0
        self._arrive(0.0)

    def frame(self) -> SkeletonFrame:
        """Return the next frame, at seq / fps seconds from the start."""
        now_s = self._seq / self._fps
        if now_s >= self._until_s:
            self._next_stage(now_s)
        bodies: tuple[Body, ...] = ()
        if self._stage != "away":
            joints_V3, confidence = self._sensor.see(self._joints(now_s))
            bodies = (Body(id=self._body_id, joints_m=joints_V3, confidence=confidence),)
        frame = SkeletonFrame(
            source=self._source,
            epoch=self._epoch,
            seq=self._seq,
            timestamp_s=now_s,
            t_send_s=now_s,
            fps=self._fps,
            bodies=bodies,
        )
        self._seq += 1
        return frame

    def cue(self, label: str, after_s: float = 0.0) -> bool:
        """Have the person stand still and perform `label` in `after_s` seconds; False if unknown.

        A running action is broken off, which takes 0.4 s; where nobody is there, the next person
        is the one who performs. Afterwards somebody else comes, and performs it too, as the
        second action. A later cue takes the place of an earlier one.
        """
        if label not in ACTION_POSES:
            return False
        now_s = self._seq / self._fps
        self._cue = (label, now_s + after_s)
        if self._stage == "act":
            self._stage, self.current = "rest", None
            self._broken_off_s = now_s
        if self._stage == "rest":
            self._until_s = max(now_s + after_s, self._broken_off_s + _BREAK_OFF_S)
        return True

    def _next_stage(self, now_s: float) -> None:
        if self._stage == "away":
            self._body_id += 1
            self._arrive(now_s)
        elif self._stage == "act":
            self._rest(now_s)
            if self._num_left == 0:
                # Who leaves stays a second longer, so that what watches sees the end of the action.
                self._until_s += 1.0
        elif self._cue is None and self._num_left == 0:
            self._stage, self._until_s = "away", now_s + self._rng.uniform(0.3, 0.8)
        else:
            self._act(now_s)

    def _arrive(self, now_s: float) -> None:
        self._person = draw_person(self._rng, self._floor_m)
        self._motion: _Motion | None = None
        self._num_left = int(self._rng.integers(3, 6))
        self._rest(now_s)
        if self._cue is not None:
            self._until_s = max(self._cue[1], now_s + _ARRIVE_S)

    def _rest(self, now_s: float) -> None:
        self._stage, self.current = "rest", None
        self._broken_off_s = -np.inf
        self._until_s = now_s + self._rng.uniform(1.0, 2.0)

    def _act(self, now_s: float) -> None:
        if not self._programme:
            self._programme = [ACTIONS[i] for i in self._rng.permutation(len(ACTIONS))]
        if self._cue is None:
            self.current = self._programme.pop(0)
            self._num_left -= 1
        else:
            self.current, self._cue = self._cue[0], None
            self._programme.insert(1, self.current)
            self._num_left = 0
        self._stage = "act"
        self._broken_off_s = np.inf
        self._motion, self._motion_start_s = _motion(ACTION_POSES[self.current], self._rng), now_s
        self._until_s = now_s + self._motion.duration_s

    def _joints(self, now_s: float) -> Float:
        moment = np.array([now_s])
        turns_LS2 = None
        if self._motion is not None and now_s < self._motion_start_s + self._motion.duration_s:
            turns_LS2 = _turns(self._motion, moment - self._motion_start_s)
            if now_s > self._broken_off_s:
                left = max(0.0, 1 - (now_s - self._broken_off_s) / _BREAK_OFF_S)
                turns_LS2 *= left * left * (3 - 2 * left)
        joints_V3: Float = joints_at(self._person, moment, turns_LS2)[0]
        return joints_V3


def perform(action: str, *, seed: int, fps: float = 30.0) -> Movement:
    """Return one performance, with a little rest at both ends, from 0 s on; a seed is one person.

    Raises CameraError for an action that is not in ACTIONS.
    """
    if action not in ACTION_POSES:
        raise CameraError(
            f"performer: expected one of {', '.join(ACTIONS)}; got action {action!r}",
            code="unknown_action",
        )
    person = draw_person(np.random.default_rng([seed, 0]), floor_m=-0.93)
    rng = np.random.default_rng([seed, 1 + ACTIONS.index(action)])
    sensor = _Sensor(rng, fps)
    motion = _motion(ACTION_POSES[action], rng)
    before_s, after_s = rng.uniform(0.2, 0.5, 2)
    timestamps_s = np.arange(0.0, before_s + motion.duration_s + after_s, 1 / fps)
    joints_LV3 = joints_at(person, timestamps_s, _turns(motion, timestamps_s - before_s))
    seen_LV3 = np.stack([sensor.see(joints_V3)[0] for joints_V3 in joints_LV3])
    return Movement(timestamps_s=timestamps_s, joints_m=seen_LV3)


def _motion(action: Action, rng: np.random.Generator) -> _Motion:
    """Draw one performance of an action: its speed, its reach, its repeats, and who leads."""
    rest_S2 = apply_pose(REST, np.zeros((15, 2)))
    repeats = int(rng.integers(action.repeats[0], action.repeats[1] + 1))
    seconds, poses = [0.0], [rest_S2]
    for duration_s, pose in (*action.approach, *action.cycle * repeats, (action.leave_s, REST)):
        seconds.append(duration_s)
        poses.append(apply_pose(pose, poses[-1]))
    num_keys = len(poses)
    poses[-1] = rest_S2
    speed = np.exp(rng.uniform(np.log(0.7), np.log(1.4)))
    times_s = np.cumsum(seconds * np.exp(rng.normal(0, 0.06, num_keys)) / speed)
    times_s -= times_s[0]
    reach_K11 = rng.uniform(0.86, 1.08) * (1 + rng.normal(0, 0.03, (num_keys, 1, 1)))
    turns_KS2 = (np.stack(poses) - rest_S2) * reach_K11
    turns_KS2[:, LEFT] *= 1 + rng.normal(0, 0.02)
    lags_S2 = np.zeros((15, 2))
    lags_S2[LEFT] += rng.uniform(0, 0.04)
    lags_S2[RIGHT] += rng.uniform(0, 0.04)
    follow_s = rng.uniform(0.01, 0.04)
    lags_S2[ARMS] += follow_s * np.array([0, 0, 1, 2, 0, 1, 2])[:, None]
    lags_D = lags_S2.reshape(-1)
    turns_KD = turns_KS2.reshape(num_keys, -1)
    return _Motion(
        times_s=times_s,
        turns_KD=turns_KD,
        slopes_KD=_slopes(times_s, turns_KD),
        lags_D=lags_D,
        duration_s=float(times_s[-1] + lags_D.max()),
    )


def _slopes(times_s: Float, turns_KD: Float) -> Float:
    """Return the slopes of a curve that eases in and out of every extreme and never overshoots.

    Source: Fritsch and Butland 1984, a harmonic mean where the curve goes on, else zero.
    """
    rise_KD = np.diff(turns_KD, axis=0) / np.diff(times_s)[:, None]
    before, after = rise_KD[:-1], rise_KD[1:]
    goes_on = before * after > 0
    total = np.where(goes_on, before + after, 1.0)
    slopes_KD = np.zeros_like(turns_KD)
    slopes_KD[1:-1] = np.where(goes_on, 2 * before * after / total, 0.0)
    return slopes_KD


def _turns(motion: _Motion, times_s: Float) -> Float:
    """Return the turns away from rest, shape (L, S, 2), degrees, zero before and after the motion."""
    times_LD = np.clip(times_s[:, None] - motion.lags_D, 0, motion.times_s[-1])
    key = np.minimum(np.searchsorted(motion.times_s, times_LD, side="right") - 1, len(motion.times_s) - 2)
    step_s = motion.times_s[key + 1] - motion.times_s[key]
    x = (times_LD - motion.times_s[key]) / step_s
    dof = np.arange(len(motion.lags_D))
    start, end = motion.turns_KD[key, dof], motion.turns_KD[key + 1, dof]
    leave, arrive = motion.slopes_KD[key, dof] * step_s, motion.slopes_KD[key + 1, dof] * step_s
    turns = start + x * x * (3 - 2 * x) * (end - start) + x * (1 - x) * ((1 - x) * leave - x * arrive)
    return np.asarray(turns.reshape(len(times_s), 15, 2), np.float64)
