"""Pages about runs: one HTML file with everything that there is to see, and its pictures as PNG."""

from rl_framework.report.page.write import write_report

__all__ = ["write_report"]
