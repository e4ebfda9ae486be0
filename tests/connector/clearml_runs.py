"""What the tests of the ClearML connector share."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from tests.servers.clearml import ClearMLServer

from rl_framework import ClearMLConnector, ClearMLUploadConfig
from rl_framework.retry import RetryPolicy

SHORT = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}
QUICK = RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.05, longest_retry_after=0.1)
ROOT = Path(__file__).resolve().parents[2]


def connector(config: ClearMLUploadConfig | None = None, **options: Any) -> ClearMLConnector:
    """Returns a connector that is quick to try again."""
    config = config or ClearMLUploadConfig("my project", n_eval_episodes=2, video_length=4, describe_code=False)
    return ClearMLConnector(config, **{"retry": QUICK, "patience": 60.0, **options})


def run_script(
    server: ClearMLServer,
    folder: Path,
    code: str | Path,
    *,
    arguments: tuple[str, ...] = (),
    variables: dict[str, str] | None = None,
    timeout: float = 300.0,
    expected: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Runs a program in a process of its own, as the SDK's global state demands.

    Args:
        server: The server that its `clearml.conf` names.
        folder: Its working directory and its home.
        code: The program, or its file.
        arguments: Of the program.
        variables: Further environment variables.
        timeout: Seconds after which it hangs.
        expected: Exit status.
    """
    settings = folder / "settings.conf"
    settings.write_text(server.configuration())
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CLEARML_", "TRAINS_"))}
    environment |= {
        "CLEARML_CONFIG_FILE": str(settings),
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        **(variables or {}),
    }
    if isinstance(code, str):
        script = folder / "script.py"
        script.write_text(textwrap.dedent(code))
    else:
        script = code
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == expected, f"{done.stdout}\n{done.stderr}"
    return done
