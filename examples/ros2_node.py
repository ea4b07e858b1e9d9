"""A ROS 2 node that publishes events as JSON in std_msgs/String, on /crossglg_edge/events.

NOT RUN by this project: rclpy comes with a ROS 2 installation, not from PyPI. Only what it does with the events was
tested, without ROS. Needs `pip install pyzmq msgpack` beside it. Usage, with ROS 2 sourced:
python ros2_node.py --ros-args -p endpoint:=tcp://127.0.0.1:5561; ros2 topic echo /crossglg_edge/events
"""

import json

import msgpack
import rclpy
import zmq
from rclpy.node import Node
from std_msgs.msg import String


class Events(Node):  # type: ignore[misc]  # rclpy is not here
    """Take what a daemon recognizes into ROS."""

    def __init__(self) -> None:
        super().__init__("crossglg_edge")
        self.declare_parameter("endpoint", "tcp://127.0.0.1:5561")
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self.socket.connect(self.get_parameter("endpoint").value)
        self.socket.subscribe(b"event.")
        self.events = self.create_publisher(String, "~/events", 10)
        self.timer = self.create_timer(0.02, self.take)

    def take(self) -> None:
        """Publish what has come; the executor calls it fifty times a second."""
        while self.socket.poll(0):
            _, payload = self.socket.recv_multipart()
            self.events.publish(String(data=json.dumps(msgpack.unpackb(payload))))


def main() -> None:
    """Spin until Ctrl-C."""
    rclpy.init()
    node = Events()
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()


if __name__ == "__main__":
    main()
