"""A robot that stops when somebody does the action "stop", or when nobody looks any more.

THIS IS NO SAFETY FUNCTION. Recognition misses gestures, and takes a second or more. A machine that can hurt people
needs an emergency stop and guards that work without this program, by the rules that apply to it.

The robot here only prints. It drives while the daemon was heard within WATCHDOG_S, a camera gives frames, and "stop" is
enrolled. Whatever stops it, it drives again only when a person presses Enter.
Usage: python stop_robot.py [ENDPOINT], with pyzmq and msgpack.
"""

import os
import sys
import time
from typing import Any

import msgpack
import zmq

LABEL = "stop"
WATCHDOG_S = 2.5  # the daemon sends its status every second
MAX_FRAME_AGE_S = 2.0  # up to a second of it is the status's own age
ENTER = sys.stdin.fileno()


def halt(why: str) -> None:
    """Stop the motors; here: say so."""
    print(f"HALT: {why}. Enter drives again.", flush=True)


def why_not(status: dict[str, Any], heard_s: float) -> str:
    """Return why the robot must not drive, "" where it may."""
    if time.monotonic() - heard_s > WATCHDOG_S:
        return "the daemon is silent"
    if LABEL not in status["gallery"]["labels"]:
        return f"nothing is enrolled as {LABEL!r}"
    # The age was told with the status, and has grown since.
    ages_s = [source["age_s"] + time.monotonic() - heard_s for source in status["sources"].values()]
    return "" if min(ages_s, default=1e9) <= MAX_FRAME_AGE_S else "no camera gives frames"


def main() -> None:
    """Drive while nothing forbids it."""
    socket = zmq.Context().socket(zmq.SUB)
    socket.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5561")
    socket.subscribe(b"event.")
    socket.subscribe(b"status.")
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(ENTER, zmq.POLLIN)
    status: dict[str, Any] = {}
    heard_s, is_driving = -1e9, False
    halt("a person has to start it")
    while True:
        ready = dict(poller.poll(100))  # ten times a second, whoever is silent
        stopped_by = ""
        if socket in ready:
            topic, payload = socket.recv_multipart()
            message = msgpack.unpackb(payload)
            if topic == b"status.daemon":
                status, heard_s = message, time.monotonic()
            elif topic.startswith(b"event.") and message["label"] == LABEL:
                stopped_by = f"body {message['body']} of {message['source']} said so"
        stopped_by = stopped_by or why_not(status, heard_s)
        if is_driving and stopped_by:
            is_driving = False
            halt(stopped_by)
        if ENTER in ready:
            if not os.read(ENTER, 4096):
                halt("nobody is there to press Enter")
                return
            is_driving = not stopped_by
            print("driving", flush=True) if is_driving else halt(stopped_by)


if __name__ == "__main__":
    main()
