"""Pictures and videos of agents and of their training."""

from rl_framework.report.encoding import encode_video
from rl_framework.report.plots import plot_learning_curve
from rl_framework.report.video import record_video

__all__ = ["encode_video", "plot_learning_curve", "record_video"]
