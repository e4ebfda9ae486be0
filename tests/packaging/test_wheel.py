"""The wheel: what is in it, and that it works in an environment of its own, with each extra."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = list(PROJECT["optional-dependencies"])

# What the packages of each extra are imported as, where that is not their name with underscores.
IMPORTED_AS = {
    "box2d": "Box2D",
    "google-api-python-client": "googleapiclient",
    "google-auth": "google.auth",
    "grpcio": "grpc",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "universal-pathlib": "upath",
}

# Every public name resolves with the dependencies of the core alone.
RESOLVE_PUBLIC_NAMES = """
import importlib.metadata, rl_framework
for name in rl_framework.__all__:
    getattr(rl_framework, name)
print(importlib.metadata.version("rl-framework"))
"""

# Training, saving and acting need the core alone; what is missing says which command brings it.
WORK_WITH_THE_CORE = """
import rl_framework
agent = rl_framework.StableBaselinesAgent("ppo", {"n_steps": 32, "batch_size": 32})
agent.train("CartPole-v1", 64, seed=0, progress_bar=False)
agent.save_to_file("agent.zip")
loaded = rl_framework.load_agent("agent.zip")
assert loaded.evaluate("CartPole-v1", 3, seed=1) == agent.evaluate("CartPole-v1", 3, seed=1)
try:
    rl_framework.StableBaselinesAgent("tqc")
except rl_framework.MissingExtraError as error:
    assert 'pip install "rl-framework[contrib]"' in str(error), error
else:
    raise AssertionError("sb3-contrib is not an extra")
"""

# A rule that BC can only get right by learning it: half of the actions are right by chance.
TRAIN_BEHAVIOR_CLONING = """
import numpy as np, torch
from gymnasium import spaces
from imitation.algorithms.bc import BC
from imitation.data.types import Transitions

torch.manual_seed(0)
rng = np.random.default_rng(0)
observations = rng.uniform(-1, 1, size=(256, 2)).astype(np.float32)
actions = (observations[:, 0] > 0).astype(np.int64)
demonstrations = Transitions(
    obs=observations, acts=actions, infos=np.array([{}] * 256), next_obs=observations, dones=np.zeros(256, dtype=bool)
)
learner = BC(
    observation_space=spaces.Box(-1, 1, (2,), np.float32), action_space=spaces.Discrete(2),
    rng=rng, demonstrations=demonstrations, device="cpu",
)
accuracy = lambda: (learner.policy.predict(observations, deterministic=True)[0] == actions).mean()
before = accuracy()
learner.train(n_epochs=20, progress_bar=False)
assert before < 0.9 < 0.95 < accuracy(), (before, accuracy())
import imitation.algorithms.adversarial.gail, imitation.algorithms.adversarial.airl
import imitation.algorithms.dagger, imitation.algorithms.density, imitation.algorithms.mce_irl
import imitation.algorithms.preference_comparisons, imitation.algorithms.sqil, imitation.data.serialize
"""

# The same rule, learned by this package's own agents from recorded episodes.
EPISODES = """
import numpy as np
from gymnasium import spaces
from rl_framework import Episode, EpisodeSequence, load_agent
rng = np.random.default_rng(0)
def episode():
    observations = rng.uniform(-1, 1, size=(65, 2)).astype(np.float32)
    return Episode(observations, (observations[:-1, 0] > 0).astype(np.int64), np.zeros(64), True, False)
spaces = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)
EpisodeSequence.from_episodes([episode() for _ in range(8)], *spaces).save("episodes")
episodes = EpisodeSequence.from_dataset("episodes")
batch = episodes.transitions().all()
accuracy = lambda agent: (agent.choose_action(batch.observations) == batch.actions).mean()
"""
TRAIN_IMITATION_AGENT = f"""{EPISODES}
from rl_framework import ImitationAgent
from rl_framework.agent.imitation.presets import tuned_parameters
agent = ImitationAgent("bc", {{"optimizer_kwargs": {{"lr": 3e-3}}}})
agent.train(episodes, total_timesteps=20_000, seed=0, progress_bar=False)
assert accuracy(agent) > 0.95, accuracy(agent)
assert accuracy(load_agent(agent.save_to_file("agent.zip"))) == accuracy(agent)
assert tuned_parameters("bc", "seals/Hopper-v1")
"""
TRAIN_OFFLINE_AGENT = f"""{EPISODES}
from rl_framework import OfflineAgent
agent = OfflineAgent("bc", {{"learning_rate": 3e-3, "batch_size": 64}})
agent.train(episodes, total_timesteps=20_000, seed=0, progress_bar=False)
assert accuracy(agent) > 0.95, accuracy(agent)
assert accuracy(load_agent(agent.save_to_file("agent.zip"))) == accuracy(agent)
"""

# The same rule, for an algorithm of d3rlpy.
TRAIN_OFFLINE = """
import d3rlpy, numpy as np
rng = np.random.default_rng(0)
observations = rng.uniform(-1, 1, size=(256, 2)).astype(np.float32)
actions = (observations[:, :1] > 0).astype(np.int64)
ends = np.tile(np.arange(8) == 7, 32).astype(np.float32)
dataset = d3rlpy.dataset.MDPDataset(observations, actions, np.zeros((256, 1), np.float32), ends)
learner = d3rlpy.algos.DiscreteBCConfig(learning_rate=3e-3, batch_size=64).create()
learner.build_with_dataset(dataset)
accuracy = lambda: (learner.predict(observations) == actions[:, 0]).mean()
before = accuracy()
for _ in range(100):
    learner.update(dataset.sample_transition_batch(64))
assert before < 0.9 < 0.95 < accuracy(), (before, accuracy())
"""


def run(*command: str | Path, directory: Path) -> str:
    """Runs a command outside the clone, and shows what it said when it fails."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV_", "COVERAGE"))
    }
    finished = subprocess.run(
        [str(part) for part in command], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, directory=folder)
    (built,) = folder.iterdir()
    return built


def _data_files() -> list[Path]:
    return [path for path in (ROOT / "src" / "rl_framework").rglob("*") if path.suffix in (".json", ".yaml")]


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    information = f"rl_framework-{PROJECT['version']}.dist-info/"
    assert {name for name in names if not name.startswith(("rl_framework/", information))} == set()
    tracked = {
        f"rl_framework/{path.relative_to(ROOT / 'src' / 'rl_framework').as_posix()}"
        for path in (ROOT / "src" / "rl_framework").rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == tracked
    data = {f"rl_framework/{path.relative_to(ROOT / 'src' / 'rl_framework').as_posix()}" for path in _data_files()}
    assert {name for name in names if name.endswith((".json", ".yaml"))} == data
    assert "rl_framework/experiment/presets/data/ppo.yaml" in data
    assert "rl_framework/py.typed" in names
    assert any(name.startswith(information) and name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.endswith((".pyc", ".so", ".pkl"))]


def test_wheel_declares_its_dependencies_and_extras(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = BytesParser().parsebytes(archive.read(f"rl_framework-{PROJECT['version']}.dist-info/METADATA"))
    assert set(metadata.get_all("Provides-Extra", [])) == set(EXTRAS)
    declared = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    core = {requirement.name for requirement in declared if requirement.marker is None}
    assert core == {Requirement(text).name for text in PROJECT["dependencies"]}
    # An address instead of a range would keep it from being uploaded to an index.
    assert not [requirement for requirement in declared if requirement.url]
    assert SpecifierSet(metadata["Requires-Python"]) == SpecifierSet(PROJECT["requires-python"])


@pytest.fixture
def clean_python(tmp_path: Path) -> Iterator[Path]:
    """The interpreter of a new environment that holds nothing but pip; removed afterwards, since torch is large."""
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=True)
    yield folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_wheel_works_in_a_clean_environment(wheel: Path, clean_python: Path, tmp_path: Path, extra: str) -> None:
    """Installed with one extra, nothing is missing or in conflict, and everything public can be imported.

    The pins of requirements.txt are constraints, so that the versions are those that were tested. For the extras
    `imitation` and `offline`, imitation and d3rlpy themselves come after `pip check`: their published metadata asks for
    older libraries, which `pip check` would then repeat, although they run on these.
    """
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(line for line in pins if not line.startswith("./")))
    pip = (clean_python, "-m", "pip", "--disable-pip-version-check")
    wanted = f"rl-framework[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
    run(*pip, "install", "--quiet", "--constraint", constraints, wanted, directory=tmp_path)
    assert "No broken requirements" in run(*pip, "check", directory=tmp_path)
    requirements = [Requirement(text) for text in PROJECT["optional-dependencies"].get(extra, [])]
    names = [each.name for each in requirements if each.marker is None or each.marker.evaluate()]
    modules = ", ".join(IMPORTED_AS.get(name, name.replace("-", "_")) for name in names) or "rl_framework"
    run(clean_python, "-c", f"import {modules}", directory=tmp_path)

    if not extra:
        run(clean_python, "-c", WORK_WITH_THE_CORE, directory=tmp_path)
    if extra in ("imitation", "all"):
        run(*pip, "install", "--quiet", "--no-deps", "imitation==1.0.1", directory=tmp_path)
        run(clean_python, "-c", TRAIN_BEHAVIOR_CLONING, directory=tmp_path)
        run(clean_python, "-c", TRAIN_IMITATION_AGENT, directory=tmp_path)
        shutil.rmtree(tmp_path / "episodes")
    if extra in ("offline", "all"):
        run(*pip, "install", "--quiet", "--no-deps", "d3rlpy==2.8.1", directory=tmp_path)
        run(clean_python, "-c", TRAIN_OFFLINE, directory=tmp_path)
        run(clean_python, "-c", TRAIN_OFFLINE_AGENT, directory=tmp_path)

    assert run(clean_python, "-c", RESOLVE_PUBLIC_NAMES, directory=tmp_path).strip() == PROJECT["version"]
