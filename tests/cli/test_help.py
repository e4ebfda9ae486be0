"""Help is there at once: it loads neither torch nor anything else that is heavy."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

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


def test_help_takes_less_than_a_second() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "rl_framework", "train", "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of CPU time, which others on this machine do not change much; 0.35 s were measured.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


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
