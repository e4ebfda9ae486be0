"""Help is there at once: it loads neither torch nor anything else that is heavy."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest
from tests.cli.commands import rl

import rl_framework
from rl_framework.cli.app import VERBS

HEAVY = ("torch", "numpy", "gymnasium", "stable_baselines3", "matplotlib", "yaml", "imitation", "PIL")


def test_help_of_every_verb_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from rl_framework.cli.app import VERBS, app\n"
        "for arguments in ([], ['--help'], *([verb, '--help'] for verb in VERBS)):\n"
        "    app(arguments, prog_name='rl-framework', standalone_mode=False)\n"
        f"print('loaded:', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "loaded: []"
    assert ended.stdout.count("Exit codes:") == len(VERBS) + 2


def test_help_takes_little_more_than_the_library_that_draws_it() -> None:
    def cost(*arguments: str) -> float:
        """Returns CPU time, of which others on this machine change little; the second run finds everything compiled."""
        costs = []
        for _ in range(2):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(costs)

    drawing = cost("-c", "import typer, rich.console, rich.markdown, rich.panel, rich.table")
    assert cost("-m", "rl_framework", "train", "--help") < 8 * drawing  # 3 times as much was measured


def test_the_console_script_is_the_same() -> None:
    from importlib.metadata import distribution

    (point,) = distribution("rl-framework").entry_points.select(group="console_scripts")
    assert (point.name, point.value) == ("rl-framework", "rl_framework.cli:main")
    command = [sys.executable, "-m", "rl_framework", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"})
    assert ended.stdout == f"rl-framework {rl_framework.__version__}\n"


def test_an_unknown_verb_or_option_is_told_with_what_is_near() -> None:
    assert "Did you mean 'train'" in rl("trainn", code=2).err
    assert "--algo" in rl("train", "--alg", "ppo", code=2).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trainn",), "No such command 'trainn'"),
        (("train", "--alg", "ppo"), "No such option: --alg"),
        (("train", "--lr", "much"), "Invalid value for '--lr'"),
        (("evaluate",), "Missing argument 'RUN'"),
        ((), "No such option: --json"),
    ],
    ids=["verb", "option", "value", "argument", "nothing"],
)
def test_a_command_that_cannot_be_read_is_answered_with_json_if_that_was_asked_for(
    arguments: tuple[str, ...], message: str
) -> None:
    said = rl(*arguments, "--json", code=2)
    assert said.data["error"]["message"].startswith(message)
    assert said.data["exit_code"] == 2
    assert message.partition("'")[0] in said.err
