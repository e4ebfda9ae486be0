from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.commands import SMALL, rl


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is finished; nobody may change it."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["--algo", "ppo", "--no-preset", "--env", "CartPole-v1", "--total-timesteps", "64", "--seed", "3"]
    rl("train", *arguments, "--n-eval-episodes", "2", "--run-dir", str(folder), "--name", "tiny", *SMALL)
    return folder / "tiny"


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, in runs/tiny."""
    import shutil

    return Path(shutil.copytree(trained, tmp_path / "runs" / "tiny")).relative_to(tmp_path)
