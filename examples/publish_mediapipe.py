"""Publish the person whom MediaPipe sees in a webcam or a video, with pyzmq and msgpack.

Needs `pip install "mediapipe==0.10.21" pyzmq msgpack` in an environment of its own: this MediaPipe is the last one with
a model inside, and it wants numpy 1. The daemon runs with `crossglg-edge serve --camera zmq`.
Usage: python publish_mediapipe.py [NUMBER|VIDEO] [ENDPOINT]. `serve --camera webcam` does the same and more.
"""

import itertools
import signal
import sys
import time
import uuid

import cv2
import mediapipe
import msgpack
import zmq

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it
words = [word for word in sys.argv[1:] if "://" not in word] or ["0"]
video = cv2.VideoCapture(int(words[0]) if words[0].isdecimal() else words[0])
if not video.isOpened():
    sys.exit(f"{words[0]} cannot be opened: expected the number of a camera or the file of a video")
socket = zmq.Context().socket(zmq.PUB)
socket.connect(next((word for word in sys.argv[1:] if "://" in word), "tcp://127.0.0.1:5560"))
time.sleep(0.5)  # until it has found the daemon
pose = mediapipe.solutions.pose.Pose(model_complexity=1)
epoch, start_s = uuid.uuid4().hex, time.monotonic()
for seq in itertools.count():
    is_there, image = video.read()
    if not is_there:
        break  # the end of the video; or the camera was unplugged
    exposed_s = time.monotonic()
    if not words[0].isdecimal():  # a file gives its frames at once, and they are due when they were taken
        exposed_s = start_s + video.get(cv2.CAP_PROP_POS_MSEC) / 1000
        time.sleep(max(0.0, exposed_s - time.monotonic()))
    found = pose.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).pose_world_landmarks
    landmarks = found.landmark if found else []
    # Meters around the middle of the hips, in MediaPipe's own axes; what is hidden has a low visibility.
    body = {"id": 0, "pos": [[p.x, p.y, p.z] for p in landmarks], "conf": [p.visibility for p in landmarks]}
    frame = {"v": 1, "source": "mediapipe", "epoch": epoch, "seq": seq, "layout": "mediapipe33"}
    frame |= {"timestamp": exposed_s, "t_send": time.monotonic(), "bodies": [body] if landmarks else []}
    socket.send_multipart([b"skeleton.mediapipe", msgpack.packb(frame)])
print(f"{seq} frames sent", flush=True)
