"""Joints over time: tracks, speeds, sides, alignment and the one preprocessing; knows no model and no gallery."""

from edge.motion.dtw import dtw_distances
from edge.motion.preprocess import (
    COMPATIBLE_VERSIONS,
    MOTION_SHARE,
    PREPROCESSING_VERSION,
    fill_missing,
    frames_at,
    pace_by_motion,
    resample,
    stand_up,
    to_body_frame,
    window_from_movement,
    windows_from_joints,
)
from edge.motion.sides import moved_most, on_side
from edge.motion.speed import REST_M_S, extremity_speed_m_s, travel_m, travels_m, trim_rest
from edge.motion.track import BodyTrack

__all__ = [
    "COMPATIBLE_VERSIONS",
    "MOTION_SHARE",
    "PREPROCESSING_VERSION",
    "REST_M_S",
    "BodyTrack",
    "dtw_distances",
    "extremity_speed_m_s",
    "fill_missing",
    "frames_at",
    "moved_most",
    "on_side",
    "pace_by_motion",
    "resample",
    "stand_up",
    "to_body_frame",
    "travel_m",
    "travels_m",
    "trim_rest",
    "window_from_movement",
    "windows_from_joints",
]
