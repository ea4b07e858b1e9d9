"""What the encoder looks at, in figures."""

from training.explain.explain import Clips, Explanation, explain_runs, key_joint_shares, most_moving, read_clips
from training.explain.figures import FILES, Kind, draw_figures, headings

__all__ = [
    "FILES",
    "Clips",
    "Explanation",
    "Kind",
    "draw_figures",
    "explain_runs",
    "headings",
    "key_joint_shares",
    "most_moving",
    "read_clips",
]
