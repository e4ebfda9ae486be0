"""What only a process of its own shows: signals, exit codes, and what really is on standard output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.commands import SMALL, rl

from rl_framework.experiment import Run

COMMAND = [sys.executable, "-m", "rl_framework"]
QUIET = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on() -> None:
    options = ["--algo", "ppo", "--no-preset", "--env", "CartPole-v1", "--total-timesteps", "100000000"]
    with subprocess.Popen(
        [*COMMAND, "train", *options, "--name", "long", "evaluation=null", *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=QUIET,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Training begins"):
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert out.splitlines()[-1] == "rl-framework resume runs/long"
    run = Run.open("runs/long")
    assert run.status == "unfinished"
    assert run.timestep > 0
    said = rl(*out.splitlines()[-1].split()[1:], f"training.total_timesteps={run.timestep + 16}")
    assert f"goes on at timestep {run.timestep:,}" in said.err or "goes on at timestep" in said.err
    assert Run.open("runs/long").status == "finished"


def test_standard_output_is_one_json_document_whatever_libraries_print(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os\n"
        "import gymnasium.envs.classic_control.cartpole as cartpole\n"
        "real = cartpole.CartPoleEnv.reset\n"
        "def reset(self, **options):\n"
        "    print('hello from a library')\n"
        "    os.write(1, b'hello from a program')\n"
        "    return real(self, **options)\n"
        "cartpole.CartPoleEnv.reset = reset\n"
    )
    ended = subprocess.run(
        [*COMMAND, "evaluate", str(trained), "--episodes", "2", "--json"],
        capture_output=True,
        text=True,
        env={**QUIET, "PYTHONPATH": str(tmp_path)},
        check=True,
    )
    assert json.loads(ended.stdout)["n_episodes"] == 2
    assert "hello from a library" in ended.stderr
    assert "hello from a program" in ended.stderr


def test_a_mistake_ends_a_process_with_2() -> None:
    command = [*COMMAND, "train", "--algo", "ppo", "--seeds", "0,a"]
    ended = subprocess.run(command, capture_output=True, text=True, env=QUIET, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: --seeds='0,a': must be integers")
