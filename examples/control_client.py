"""Ask a daemon anything, with pyzmq and msgpack alone: docs/control.md lists the commands.

Usage: python control_client.py COMMAND [ARGUMENTS] [ENDPOINT], such as gallery.get '{"label": "wave"}'
"""

import json
import sys
import uuid
from typing import Any

import msgpack
import zmq


def ask(socket: Any, command: str, **args: Any) -> Any:
    """Return a command's result. Raises RuntimeError where it is refused, TimeoutError where nobody answers."""
    request = {"v": 1, "id": uuid.uuid4().hex, "cmd": command, "args": args}
    socket.send(msgpack.packb(request))
    while socket.poll(5000):
        answer = msgpack.unpackb(socket.recv())
        if answer["id"] == request["id"] and answer["ok"]:  # another id: the late answer to an earlier request
            return answer["result"]
        if answer["id"] == request["id"]:
            raise RuntimeError("{code}: {message} {hint}".format(**answer["error"]))
    raise TimeoutError("no daemon answers within 5 s")


socket = zmq.Context().socket(zmq.DEALER)
socket.linger = 0
socket.connect(sys.argv[-1] if "://" in sys.argv[-1] else "tcp://127.0.0.1:5562")
arguments = [json.loads(word) for word in sys.argv[2:] if word.startswith("{")] or [{}]
print(json.dumps(ask(socket, sys.argv[1], **arguments[0]), default=bytes.hex))
