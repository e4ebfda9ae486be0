from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rl_framework.cli.app import app


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


Command = Callable[..., Said]


def run_command(*arguments: str, code: int = 0) -> Said:
    """Runs the command line in this process, and expects an exit code."""
    result = CliRunner().invoke(app, list(arguments), prog_name="rl-framework")
    said = Said(result.exit_code, result.stdout, result.stderr)
    assert said.code == code, f"{arguments}: {said} {result.exception!r}"
    return said


@pytest.fixture
def rl() -> Command:
    return run_command


SMALL = ("agent.parameters.n_steps=16", "agent.parameters.batch_size=16", "agent.parameters.n_epochs=1")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is finished; nobody may change it."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["train", "--algo", "ppo", "--no-preset", "--env", "CartPole-v1", "--total-timesteps", "64"]
    arguments += ["--seed", "3", "--n-eval-episodes", "2", "--run-dir", str(folder), "--name", "tiny", *SMALL]
    run_command(*arguments)
    return folder / "tiny"
