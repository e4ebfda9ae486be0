"""Pictures, videos and pages of agents and of their training.

The package can be called: `rl_framework.report("runs/walker")` is `write_report("runs/walker")`.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from rl_framework.report.inline_video import InlineVideo, show_video
from rl_framework.report.live_curve import LiveCurve
from rl_framework.report.page import write_report
from rl_framework.report.periodic_video import PeriodicVideo
from rl_framework.report.plots import plot_learning_curve
from rl_framework.report.recording.encoding import encode_video
from rl_framework.report.recording.overlay import Overlay
from rl_framework.report.recording.video import record_video

__all__ = [
    "InlineVideo",
    "LiveCurve",
    "Overlay",
    "PeriodicVideo",
    "encode_video",
    "plot_learning_curve",
    "record_video",
    "show_video",
    "write_report",
]


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Path:
        return write_report(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
