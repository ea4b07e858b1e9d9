"""Events to the rest of the house: each bridge is a process of its own, and a plain subscriber of the daemon."""

from edge.bridge.bridge import Bridge
from edge.bridge.command import Command
from edge.bridge.listener import describe_counts, listen
from edge.bridge.lsl import Lsl
from edge.bridge.mqtt import Mqtt
from edge.bridge.osc import Osc
from edge.bridge.prometheus import Prometheus
from edge.bridge.webhook import Webhook

__all__ = ["Bridge", "Command", "Lsl", "Mqtt", "Osc", "Prometheus", "Webhook", "describe_counts", "listen"]
