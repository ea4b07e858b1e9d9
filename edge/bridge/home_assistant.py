"""What Home Assistant reads to find a device by itself: one `event` entity for each label."""

from __future__ import annotations

from typing import Any

from edge.bridge.names import address_name
from edge.config import EventType
from edge.protocol import VERSION


def discovery_topic(prefix: str, node: str, label: str) -> str:
    """Return the topic of a label's entity; with `+` as the label, that of all."""
    return f"{prefix}/event/{node}/{label if label == '+' else address_name(label)}/config"


def describe_entity(
    label: str, *, node: str, state_topic: str, availability_topic: str, types: tuple[EventType, ...]
) -> dict[str, Any]:
    """Return what describes a label's entity and the device that it belongs to."""
    device = f"crossglg_edge_{node}"
    return {
        "unique_id": f"{device}_{address_name(label)}",
        "name": label,
        "icon": "mdi:human-handsup",
        "state_topic": state_topic,
        "event_types": list(types),
        "qos": 1,
        "availability_topic": availability_topic,
        "payload_available": "online",
        "payload_not_available": "offline",
        "device": {
            "identifiers": [device],
            "name": node,
            "manufacturer": "crossglg-edge",
            "model": "one-shot action recognition",
            "sw_version": VERSION,
        },
        "origin": {"name": "crossglg-edge", "sw_version": VERSION},
    }
