"""What the encoder looks at, in figures."""

from training.explain.explain import Clips, Explanation, explain_runs, key_joint_shares, most_moving, read_clips
from training.explain.figures import draw_figures

__all__ = ["Clips", "Explanation", "draw_figures", "explain_runs", "key_joint_shares", "most_moving", "read_clips"]
