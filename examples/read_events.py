"""Print what a daemon recognizes, with pyzmq and msgpack alone.

Usage: python read_events.py [ENDPOINT]
"""

import signal
import sys

import msgpack
import zmq

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it
socket = zmq.Context().socket(zmq.SUB)
socket.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5561")
socket.subscribe(b"event.")  # b"" adds the status, once a second, and the log
while True:
    topic, payload = socket.recv_multipart()
    event = msgpack.unpackb(payload)
    seconds = event["t_end"] - event["t_start"]
    who = f"body {event['body']} of {event['source']}"
    print(f"{event['type']} {event['label']}: {who}, {seconds:.1f} s, score {event['score']:.2f}", flush=True)
