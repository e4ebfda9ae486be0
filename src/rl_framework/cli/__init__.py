"""The command line `rl-framework`: one file a verb, in `rl_framework.cli.verbs`; see docs/command-line.md."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line with the arguments of this process, and ends the process."""
    try:
        from rl_framework.cli.app import app

        app(prog_name="rl-framework")
    except KeyboardInterrupt:  # while it is being imported; later, each verb has its own answer
        sys.stderr.write("interrupted\n")
        sys.exit(130)
