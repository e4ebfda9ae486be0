"""What is written for people."""

from __future__ import annotations

import warnings

import pytest

from rl_framework.cli.output import told_on_stderr


def test_a_warning_is_a_line_without_the_colours_of_gymnasium(capsys: pytest.CaptureFixture[str]) -> None:
    with told_on_stderr():
        warnings.warn("\x1b[33mWARN: The environment X-v4\nis out of date.\x1b[0m", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: The environment X-v4 is out of date.\n"
