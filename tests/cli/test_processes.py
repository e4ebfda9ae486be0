"""What only a process of its own shows: signals, exit codes, and what really is on standard output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from types import ModuleType

import pytest
from tests.cli.commands import SMALL, rl

from rl_framework.cli import main
from rl_framework.experiment import Run

COMMAND = [sys.executable, "-m", "rl_framework"]
WITH_LINES = ("--evaluate-every", "64", "training.n_eval_episodes=1")
QUIET = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on() -> None:
    options = ["--algo", "ppo", "--no-preset", "--env", "CartPole-v1", "--total-timesteps", "100000000"]
    with subprocess.Popen(
        [*COMMAND, "train", *options, "--name", "long", *WITH_LINES, "evaluation=null", *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=QUIET,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("evaluation at"):
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert out.splitlines()[-1] == "rl-framework resume runs/long"
    run = Run.open("runs/long")
    assert run.status == "unfinished"
    timestep = run.timestep
    assert timestep > 0
    said = rl(*out.split()[-2:], f"training.total_timesteps={timestep + 16}")
    assert f"goes on at timestep {timestep:,} in" in said.err
    assert Run.open("runs/long").status == "finished"


def test_standard_output_is_one_json_document_whatever_libraries_print() -> None:
    code = (
        "import os, typer\n"
        "from rl_framework.cli.verb import Answer, as_verb\n"
        "def verb() -> Answer:\n"
        "    print('from a library')\n"
        "    os.write(1, b'from a library in C')\n"
        "    os.system('echo from a program')\n"
        "    return Answer({'answer': 42}, ['for people'])\n"
        "app = typer.Typer()\n"
        "app.command()(as_verb(verb))\n"
        "app()\n"
    )
    said = [
        subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, env=QUIET, check=True)
        for options in (["--json"], [])
    ]
    assert json.loads(said[0].stdout) == {"answer": 42}
    assert said[1].stdout == "for people\n"
    for each in said:
        for source in ("a library", "a library in C", "a program"):
            assert f"from {source}" in each.stderr


def test_a_mistake_ends_a_process_with_2() -> None:
    command = [*COMMAND, "train", "--algo", "ppo", "--seeds", "0,a"]
    ended = subprocess.run(command, capture_output=True, text=True, env=QUIET, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: --seeds='0,a': must be integers")


def test_ctrl_c_before_anything_is_there_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "rl_framework.cli.app", Interrupted("rl_framework.cli.app"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
