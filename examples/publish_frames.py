"""Publish a person who lifts the right arm every three seconds, with pyzmq, msgpack and numpy alone.

Usage: python publish_frames.py [ENDPOINT]; the daemon runs with `crossglg-edge serve --camera zmq`.
"""

import itertools
import signal
import sys
import time
import uuid

import msgpack
import numpy as np
import zmq

# The 25 joints of a Kinect v2, in its order: x to the sensor's left, y up, z away from it; meters.
STANDING = """
    0 0 2.5, 0 .3 2.5, 0 .6 2.5, 0 .75 2.5, -.18 .5 2.5, -.22 .22 2.5, -.24 -.02 2.5, -.25 -.1 2.5,
    .18 .5 2.5, .22 .22 2.5, .24 -.02 2.5, .25 -.1 2.5, -.1 0 2.5, -.12 -.42 2.5, -.12 -.8 2.5, -.12 -.85 2.4,
    .1 0 2.5, .12 -.42 2.5, .12 -.8 2.5, .12 -.85 2.4, 0 .5 2.5, -.25 -.17 2.5, -.21 -.1 2.45, .25 -.17 2.5,
    .21 -.1 2.45"""
joints_m = np.array([joint.split() for joint in STANDING.split(",")], "<f4")
SHOULDER, ARM = 8, [9, 10, 11, 23, 24]
reach_m = joints_m[SHOULDER, 1] - joints_m[ARM, 1]

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it
socket = zmq.Context().socket(zmq.PUB)
socket.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5560")
epoch = uuid.uuid4().hex
for seq in itertools.count():
    now_s = time.monotonic()
    angle = np.pi * np.sin(np.pi * min(now_s % 3, 1.5) / 1.5) ** 2
    joints_m[ARM, :2] = joints_m[SHOULDER, :2] + np.outer(reach_m, (np.sin(angle), -np.cos(angle)))
    body = {"id": 0, "pos": joints_m.tobytes()}
    frame = {"v": 1, "source": "example", "epoch": epoch, "seq": seq, "timestamp": now_s, "t_send": time.monotonic()}
    frame |= {"layout": "kinect25", "fps": 30.0, "bodies": [body]}
    socket.send_multipart([b"skeleton.example", msgpack.packb(frame)])
    time.sleep(1 / 30)
