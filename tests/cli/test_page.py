"""The commands in docs/command-line.md work as printed, in their order; trainings are cut short."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tests.cli.commands import rl
from tests.servers.hub import loopback_hub

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "command-line.md").read_text()
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]
SHORT = {
    "ppo": ["agent.parameters.n_steps=16", "agent.parameters.batch_size=16", "environment.n_environments=1"],
    "ppo+rnd": ["agent.parts[0].n_steps=16", "agent.parts[0].batch_size=16"],
}


def _arguments(command: str) -> list[str]:
    program, *arguments = shlex.split(command)
    assert program == "rl-framework"
    if arguments[0] == "train":
        arguments += ["training.total_timesteps=32", "evaluation.n_episodes=1"]
        algorithm = arguments[arguments.index("--algo") + 1] if "--algo" in arguments else ""
        arguments += SHORT.get(algorithm, [])
        if "ALE/Pong-v5" in arguments:
            arguments += ["evaluation=null"]
        if "--record-video" in arguments:
            arguments += ["video.length=5", "training.n_eval_episodes=1"]
        if "--config" in arguments:
            arguments += ["agent.parameters.n_steps=16", "training.evaluate_every=null", "evaluation=null"]
    if "--total-timesteps" in arguments and arguments[0] == "resume":
        arguments[arguments.index("--total-timesteps") + 1] = "48"
    return arguments


def test_every_verb_has_a_page() -> None:
    from rl_framework.cli.app import VERBS

    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    assert [verb for verb in VERBS if f"rl-framework {verb}" not in pages] == []


def _run(commands: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cartpole_expert").symlink_to(ROOT / "data" / "cartpole_expert")
    (tmp_path / "exploration").symlink_to(ROOT / "exploration")
    from rl_framework.experiment import Experiment

    monkeypatch.setattr(Experiment, "json_schema", lambda: {"properties": {}})
    with loopback_hub(monkeypatch, tmp_path / "cache"):
        for command in commands:
            rl(*_arguments(command))


def test_a_run_is_trained_resumed_looked_at_and_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of the page about its first run; `test_every_command_works` runs them all."""
    mine = [command for command in COMMANDS if "runs/ppo-CartPole-v1" in command and "hf://" not in command]
    assert len(mine) > 6
    _run([COMMANDS[0], *mine], tmp_path, monkeypatch)
    for path in ("runs/ppo-CartPole-v1/agent.zip", "cartpole.mp4", "cartpole.onnx", "data/collected"):
        assert Path(path).exists(), path


@pytest.mark.slow
def test_every_command_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ale_py")
    pytest.importorskip("Box2D")
    pytest.importorskip("mpe2")
    _run(COMMANDS, tmp_path, monkeypatch)
    for path in ("runs/ppo-CartPole-v1/agent.zip", "cartpole.mp4", "cartpole.onnx", "fetched.zip", "data/collected"):
        assert Path(path).exists(), path
