"""The page: a process of its own between browsers and a daemon, to which it is one more subscriber and client."""

from edge.web.access import Shown, set_up_access
from edge.web.camera_files import find_camera, set_up_camera
from edge.web.server import run_page

__all__ = ["Shown", "find_camera", "run_page", "set_up_access", "set_up_camera"]
