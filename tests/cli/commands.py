"""Commands, run in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from rl_framework.cli.app import app

SMALL = ("agent.parameters.n_steps=16", "agent.parameters.batch_size=16", "agent.parameters.n_epochs=1")
"""Makes PPO quick."""


@dataclass(frozen=True)
class Said:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def last_line(self) -> str:
        return self.out.rstrip().splitlines()[-1]


def rl(*arguments: str, code: int = 0) -> Said:
    """Runs a command and expects an exit code."""
    result = CliRunner().invoke(app, list(arguments), prog_name="rl-framework")
    said = Said(result.exit_code, result.stdout, result.stderr)
    assert said.code == code, f"{arguments}: {said} {result.exception!r}"
    return said
