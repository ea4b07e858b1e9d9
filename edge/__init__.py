"""The device: skeleton frames in, events out; needs neither torch nor a GPU."""

import os

# ONNX Runtime from 1.29 on sends usage data to Microsoft and writes a device id into the home, unless this is set
# before its first import. A user's own setting stands.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# On a busy machine numpy's small products wait for each other's threads, ten times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Its rooms, and two files that all of them may use; each is imported when it is needed.
__all__ = [
    "bench",
    "cli",
    "config",
    "daemon",
    "enroll",
    "gallery",
    "library",
    "live",
    "match",
    "model",
    "motion",
    "protocol",
    "review",
    "thresholds",
]
